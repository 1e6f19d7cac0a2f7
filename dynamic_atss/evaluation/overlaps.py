"""Explains scores of 0 by the overlaps of detections and ground truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import Table
from dynamic_atss.evaluation.voc import MIN_IOU, best_boxes, box_iou

_FEW = 0.1


def why_no_match(truth: TruthTable, table: Table) -> str | None:
    """Says in one line that detections lie on no box, or on boxes of other classes.

    Returns None if neither is true, or if there are no detections.
    """
    if not len(table):
        return None
    truth = _objects(truth)
    box = best_boxes(_of_one_class(table), _truth_of_one_class(truth), min_iou=0.0)
    iou = np.where(box >= 0, box_iou(table[:, 1:5], truth.boxes[box]), 0.0)
    hit = iou >= MIN_IOU
    if not hit.any():
        return (
            f"none of {len(table)} detections has IoU {MIN_IOU} with a box (the best has "
            f"{iou.max():.2f}): train longer, or check that the annotations belong to these images"
        )
    detected = table[hit, 6].astype(np.int64)
    annotated = truth.category_ids[box[hit]]
    right = int((detected == annotated).sum())
    return None if right > _FEW * len(detected) else _wrong_classes(truth, detected, annotated)


def _wrong_classes(truth: TruthTable, detected: np.ndarray, annotated: np.ndarray) -> str:
    names = {c["id"]: c.get("name", c["id"]) for c in truth.categories}
    pairs = Counter(zip(detected.tolist(), annotated.tolist(), strict=True))
    wrong, right = max((p for p in pairs if p[0] != p[1]), key=pairs.__getitem__)
    return (
        f"only {int((detected == annotated).sum())} of {len(detected)} detections with IoU "
        f"{MIN_IOU} on a box have its class; most often {names[wrong]!r} was detected on boxes of "
        f"{names[right]!r}: compare the class names of the weights and of the annotations, or "
        "train longer"
    )


def _objects(truth: TruthTable) -> TruthTable:
    """Drops the crowds."""
    kept = ~truth.crowd
    columns = ("image_ids", "category_ids", "boxes", "areas", "crowd")
    return replace(truth, **{name: getattr(truth, name)[kept] for name in columns})


def _of_one_class(table: Table) -> Table:
    table = table.copy()
    table[:, 6] = 0
    return table


def _truth_of_one_class(truth: TruthTable) -> TruthTable:
    return replace(truth, category_ids=np.zeros_like(truth.category_ids))
