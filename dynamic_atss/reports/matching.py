"""What became of each detection and each box, as the COCO scores match them at IoU 0.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.coco import hotcoco_evaluation, with_positive_ids
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import Table
from dynamic_atss.evaluation.scores import by_name

MIN_IOU = 0.5
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Matches:
    """D detections and T boxes of n images and K categories, whose ids are 0..n-1 and 0..K-1 here,
    in the order of the files' ids.

    names, of the categories; what several bear is completed by the file's ids · truth · table (D,
    7) · file_ids: the file's id of each image · image_ids: of those that are scored · evaluation,
    hotcoco's of all of them · counted (D,) bool: not those on a region to ignore, nor those beyond
    `max_dets` of an image and a category · right (D,) bool: finds an object · objects (T,) bool:
    not crowds, nor those of images that are not scored · found_by (T,) float64: the score of the
    detection that finds a box, -inf if none does
    """

    names: list[str]
    truth: TruthTable
    table: Table
    file_ids: list[int]
    image_ids: list[int]
    max_dets: int
    evaluation: Any
    counted: Bools
    right: Bools
    objects: Bools
    found_by: Floats

    @property
    def category(self) -> NDArray[np.int64]:
        """(D,)"""
        return self.table[:, 6].astype(np.int64)

    @property
    def image(self) -> NDArray[np.int64]:
        """(D,)"""
        return self.table[:, 0].astype(np.int64)

    @property
    def scores(self) -> Floats:
        """(D,)"""
        return self.table[:, 5]

    def false_at(self, threshold: float) -> Bools:
        """(D,) the false ones among the detections of at least this score."""
        return self.counted & ~self.right & (self.scores >= threshold)

    def found_at(self, threshold: float) -> Bools:
        """(T,) the objects that detections of at least this score find. As detections are matched
        by descending score, those below a threshold take nothing from those above."""
        return self.objects & (self.found_by >= threshold)

    def missed_at(self, threshold: float) -> Bools:
        """(T,) the other objects."""
        return self.objects & ~(self.found_by >= threshold)

    def evaluation_at(self, threshold: float) -> Any:
        """hotcoco's evaluation of the counted detections of at least this score on the objects
        alone: its TIDE takes a region to ignore for an object that a detection misses narrowly."""
        table = self.table[self.counted & (self.scores >= threshold)]
        columns = ("image_ids", "category_ids", "boxes", "areas", "crowd")
        objects = {name: getattr(self.truth, name)[self.objects] for name in columns}
        return _evaluation(replace(self.truth, **objects), table, self.image_ids, self.max_dets)


def match(truth: TruthTable, table: Table, image_ids: Sequence[int], max_dets: int) -> Matches:
    """image_ids: of the images that are scored, in the file's ids · max_dets: so many detections of
    an image and a category count"""
    id_of = by_name(truth.categories, lambda i: i)
    category_ids = sorted(category["id"] for category in truth.categories)
    file_ids = sorted(image["id"] for image in truth.images)
    truth, table, images, _ = with_positive_ids(truth, table, sorted(image_ids), category_ids)
    evaluation = _evaluation(truth, table, images, max_dets)
    found = evaluation.image_diagnostics(iou_thr=MIN_IOU, score_thr=0.0)
    counted, right = np.zeros((2, len(table)), bool)
    counted[_rows(found["dt_status"])] = True
    right[_rows(found["dt_match"])] = True
    objects, found_by = np.zeros(len(truth), bool), np.full(len(truth), -np.inf)
    objects[_rows(found["gt_status"])] = True
    detections = np.array([*found["gt_match"].values()], np.int64) - 1
    found_by[_rows(found["gt_match"])] = table[detections, 5]
    parts = evaluation, counted, right & counted, objects, found_by
    return Matches(
        sorted(id_of, key=lambda name: id_of[name]),
        truth,
        table,
        file_ids,
        images,
        max_dets,
        *parts,
    )


def _evaluation(truth: TruthTable, table: Table, images: list[int], max_dets: int) -> Any:
    categories = [{"id": i, "name": str(i)} for i in range(len(truth.categories))]
    # hotcoco keys some answers by name, and names may be there twice.
    truth = replace(truth, categories=categories)
    return hotcoco_evaluation(truth, table, images, [*range(len(categories))], [max_dets])


def _rows(by_id: dict[int, Any]) -> NDArray[np.int64]:
    return np.array([*by_id], np.int64) - 1
