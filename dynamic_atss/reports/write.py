"""`report.html` and `report.json` beside the results of a test."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Protocol

from dynamic_atss.data.annotations import read_json
from dynamic_atss.engine.evaluator import ScoredDataset, scores_of
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.ground_truth import truth_table
from dynamic_atss.evaluation.results import result_table
from dynamic_atss.evaluation.scores import shorten
from dynamic_atss.files import write_text
from dynamic_atss.reports.drawing import Images
from dynamic_atss.reports.errors import errors_at
from dynamic_atss.reports.matching import match
from dynamic_atss.reports.numbers import numbers, sweep_of
from dynamic_atss.reports.page import report_page
from dynamic_atss.reports.pictures import picture_sections, worst_images

_log = logging.getLogger(__name__)
PAGE, NUMBERS = "report.html", "report.json"
WITHOUT_BEST = 0.5  # at which errors are counted where no object is found at any threshold


class ReportedDataset(ScoredDataset, Images, Protocol):
    """What a report reads of a data set: boxes and images."""


def write_report(dataset: ReportedDataset, folder: Path, name: str, max_dets: int) -> Path | None:
    """Writes a report on a folder's `bbox.json` beside it; the page's path, None where the
    annotations hold nothing to score against. Then an older report is removed.

    name: how the data set is called · max_dets: so many detections of an image and a category count

    Raises:
        UserError: there are no results, or not of this data set; the report cannot be written.
    """
    results = folder / "bbox.json"
    if not results.is_file():
        raise UserError(f"{results}: is not there: test the model first (--report)")
    table = result_table(read_json(results), str(results))
    truth = truth_table(dataset.read(), str(dataset.annotations))
    scores = scores_of(dataset, truth, table, max_dets)
    if scores is None:
        for file in (PAGE, NUMBERS):
            (folder / file).unlink(missing_ok=True)
        return None
    matches = match(truth, table, dataset.image_ids, max_dets)
    best = sweep_of(matches).best
    errors = errors_at(matches, WITHOUT_BEST if best is None else best)
    found = {
        "data_set": name,
        "annotations": str(dataset.annotations),
        **numbers(errors, scores),
        "worst_images": worst_images(errors, dataset),
    }
    names = [*map(shorten, matches.names)]
    page = report_page(found, picture_sections(errors, dataset, names))
    write_text(folder / NUMBERS, json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False))
    write_text(folder / PAGE, page)
    _log.info("%s: report in %s", name, folder / PAGE)
    return folder / PAGE
