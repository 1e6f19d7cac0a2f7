"""Writes `report.html` and `report.json` into the folder of a test's results."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Protocol

from dynamic_atss.data.annotations import read_json
from dynamic_atss.engine.evaluator import ScoredDataset, scoring_task
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.results import result_table
from dynamic_atss.evaluation.scores import shorten
from dynamic_atss.files import write_text
from dynamic_atss.reports.detection_matching import match
from dynamic_atss.reports.drawing import Images
from dynamic_atss.reports.errors import errors_at
from dynamic_atss.reports.numbers import numbers, sweep_of
from dynamic_atss.reports.page import report_page
from dynamic_atss.reports.pictures import picture_sections, worst_images

_log = logging.getLogger(__name__)
PAGE, NUMBERS = "report.html", "report.json"
DEFAULT_THRESHOLD = 0.5  # for counting errors if no threshold finds an object


class ReportedDataset(ScoredDataset, Images, Protocol):
    """Lists the members of a data set that a report needs for boxes and images."""


def write_report(dataset: ReportedDataset, folder: Path, name: str, max_dets: int) -> Path | None:
    """Writes a report on a folder's `bbox.json` into the folder. Returns the path of the page.

    Returns None and removes an older report if the annotations hold nothing to score against.

    Args:
        dataset: the data set that was tested.
        folder: the folder of its results.
        name: the name of the data set.
        max_dets: how many detections of an image and a category count.

    Raises:
        UserError: if there are no results, they belong to another data set, or the report cannot be
            written.
    """
    results = folder / "bbox.json"
    if not results.is_file():
        raise UserError(f"{results}: does not exist; test the model first (--report)")
    table = result_table(read_json(results), str(results))
    task = scoring_task(dataset, table, max_dets)
    scores = task.scores()
    if scores is None:
        for file in (PAGE, NUMBERS):
            (folder / file).unlink(missing_ok=True)
        return None
    matches = match(task.truth, table, dataset.image_ids, max_dets)
    best = sweep_of(matches).best
    errors = errors_at(matches, DEFAULT_THRESHOLD if best is None else best)
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
