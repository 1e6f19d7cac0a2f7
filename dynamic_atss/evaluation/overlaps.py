"""What detections and ground truth have to do with each other where the scores are 0."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import Table
from dynamic_atss.evaluation.voc import MIN_IOU, best_boxes, box_iou

_FEW = 0.1


def why_no_match(truth: TruthTable, table: Table) -> str | None:
    """Why detections do not score, in one line: they lie on no box, or on boxes of other classes.

    None if neither is so, or if there are none.
    """
    if not len(table):
        return None
    truth = _objects(truth)
    box = best_boxes(_of_one_class(table), _truth_of_one_class(truth), min_iou=0.0)
    iou = np.where(box >= 0, box_iou(table[:, 1:5], truth.boxes[box]), 0.0)
    hit = iou >= MIN_IOU
    if not hit.any():
        return (
            f"none of {len(table)} detections overlaps a box by IoU {MIN_IOU} (the best by "
            f"{iou.max():.2f}): the boxes are not learnt yet, or the annotations are in the pixels "
            "of other images"
        )
    found = table[hit, 6].astype(np.int64)
    asked = truth.category_ids[box[hit]]
    right = int((found == asked).sum())
    return None if right > _FEW * len(found) else _of_other_classes(truth, found, asked)


def _of_other_classes(truth: TruthTable, found: np.ndarray, asked: np.ndarray) -> str:
    names = {c["id"]: c.get("name", c["id"]) for c in truth.categories}
    pairs = Counter(zip(found.tolist(), asked.tolist(), strict=True))
    one, other = max((p for p in pairs if p[0] != p[1]), key=pairs.__getitem__)
    return (
        f"of {len(found)} detections that overlap a box by IoU {MIN_IOU}, "
        f"only {int((found == asked).sum())} with its class; most often {names[one]!r} was found "
        f"on boxes of {names[other]!r}: compare the class names of the weights and of the "
        "annotations, or train longer"
    )


def _objects(truth: TruthTable) -> TruthTable:
    """Without crowds."""
    kept = ~truth.crowd
    columns = ("image_ids", "category_ids", "boxes", "areas", "crowd")
    return replace(truth, **{name: getattr(truth, name)[kept] for name in columns})


def _of_one_class(table: Table) -> Table:
    table = table.copy()
    table[:, 6] = 0
    return table


def _truth_of_one_class(truth: TruthTable) -> TruthTable:
    return replace(truth, category_ids=np.zeros_like(truth.category_ids))
