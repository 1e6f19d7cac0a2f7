"""Matches detections and boxes at IoU 0.5 as the COCO scores do."""

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
    """Holds the matches of D detections and T boxes of N images and K categories.

    Images are numbered 0..N-1 and categories 0..K-1 in the order of the file's ids.

    Attributes:
        names: of the categories. Equal names are completed by the file's ids.
        truth: the T boxes.
        table: (D, 7) the detections.
        file_ids: (N,) the file's id of each image.
        image_ids: the numbers of the images that are scored.
        max_dets: how many detections of an image and a category count.
        evaluation: hotcoco's evaluation of these images.
        counted: (D,) True if the detection counts. Those on a region to ignore do not count. Those
            beyond `max_dets` do not count, either.
        right: (D,) True if the detection finds an object.
        objects: (T,) True if the box is an object of a scored image. Crowds are not objects.
        found_by: (T,) the score of the detection that finds the box, or -inf if none does.
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
    def category_index(self) -> NDArray[np.int64]:
        """Returns (D,) the category of each detection."""
        return self.table[:, 6].astype(np.int64)

    @property
    def image_index(self) -> NDArray[np.int64]:
        """Returns (D,) the image of each detection."""
        return self.table[:, 0].astype(np.int64)

    @property
    def scores(self) -> Floats:
        """Returns (D,) the score of each detection."""
        return self.table[:, 5]

    def false_at(self, threshold: float) -> Bools:
        """Returns (D,) bool, True for the false detections with at least this score."""
        return self.counted & ~self.right & (self.scores >= threshold)

    def found_at(self, threshold: float) -> Bools:
        """Returns (T,) bool, True for objects that a detection with at least this score finds.

        Detections are matched by descending score, so that those below the threshold do not change
        the matches of those above it.
        """
        return self.objects & (self.found_by >= threshold)

    def missed_at(self, threshold: float) -> Bools:
        """Returns (T,) bool, True for objects that no detection with at least this score finds."""
        return self.objects & ~(self.found_by >= threshold)

    def evaluation_at(self, threshold: float) -> Any:
        """Runs hotcoco's evaluation of the counted detections with at least this score.

        Leaves out regions to ignore, because hotcoco's TIDE counts them as objects.
        """
        table = self.table[self.counted & (self.scores >= threshold)]
        columns = ("image_ids", "category_ids", "boxes", "areas", "crowd")
        objects = {name: getattr(self.truth, name)[self.objects] for name in columns}
        return _evaluation(replace(self.truth, **objects), table, self.image_ids, self.max_dets)


def match(truth: TruthTable, table: Table, image_ids: Sequence[int], max_dets: int) -> Matches:
    """Matches detections and boxes.

    Args:
        truth: the boxes.
        table: the detections.
        image_ids: the file's ids of the images to score.
        max_dets: how many detections of an image and a category count.
    """
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
    return Matches(
        names=sorted(id_of, key=lambda name: id_of[name]),
        truth=truth,
        table=table,
        file_ids=file_ids,
        image_ids=images,
        max_dets=max_dets,
        evaluation=evaluation,
        counted=counted,
        right=right & counted,
        objects=objects,
        found_by=found_by,
    )


def _evaluation(truth: TruthTable, table: Table, images: list[int], max_dets: int) -> Any:
    categories = [{"id": i, "name": str(i)} for i in range(len(truth.categories))]
    # hotcoco uses names as keys of some answers, so they have to be distinct.
    truth = replace(truth, categories=categories)
    return hotcoco_evaluation(truth, table, images, [*range(len(categories))], [max_dets])


def _rows(by_id: dict[int, Any]) -> NDArray[np.int64]:
    return np.array([*by_id], np.int64) - 1
