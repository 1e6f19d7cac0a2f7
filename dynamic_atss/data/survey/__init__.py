"""Finds mistakes in data sets before the first iteration.

Uses only annotations and file headers. `dynamic-atss check` also reads every picture.
"""

from dynamic_atss.data.survey.across_sets import together_findings
from dynamic_atss.data.survey.boxes import box_findings, crowded_images
from dynamic_atss.data.survey.files import file_findings
from dynamic_atss.data.survey.finding import LEVELS, Finding, in_order, several, share
from dynamic_atss.data.survey.priors import Matching, boxes_without_prior
from dynamic_atss.data.survey.survey_input import SurveyInput

__all__ = [
    "LEVELS",
    "Finding",
    "Matching",
    "SurveyInput",
    "box_findings",
    "boxes_without_prior",
    "crowded_images",
    "file_findings",
    "in_order",
    "several",
    "share",
    "together_findings",
]
