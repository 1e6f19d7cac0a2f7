"""A rule of one's own, as MODEL.ASSIGNER.NAME takes it: another rule, and a count beside it."""

from __future__ import annotations

import atexit
import json
from pathlib import Path
from typing import Any

import torch

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class Counting:
    """Labels as `rule` does, and leaves the mean number of positives of an image in `output`.

    Args:
        rule: a key of ASSIGNERS.
        output: a JSON file, written when the process ends.
        kwargs: of the rule.
    """

    def __init__(self, rule: str, output: str, **kwargs: Any) -> None:
        self.rule = ASSIGNERS[rule](**kwargs)
        self.soft_labels = self.rule.soft_labels
        self.quality_name = self.rule.quality_name
        self.needs_size = self.rule.needs_size
        self.output = Path(output)
        self.positives, self.images = torch.zeros(()), 0
        atexit.register(self.write)

    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        result = self.rule(priors, gt, predictions)
        self.positives = self.positives + result.positive.sum().cpu()
        self.images += len(result.gt_index)
        return result

    def write(self) -> None:
        if self.images:  # one is also made when the configuration is checked
            mean = float(self.positives) / self.images
            self.output.write_text(json.dumps({"positives_per_image": mean}))
