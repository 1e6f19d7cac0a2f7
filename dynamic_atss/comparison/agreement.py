"""How well the scores of detections tell how well they are placed.

Dynamic ATSS and DSLA are about the discrepancy of the two: a detection that is kept for its score
may lie worse than one that is suppressed.

Each detection of a test has the IoU with the object of its class in its image that it overlaps
most, 0 where there is none. Crowds (VOC's difficult, ignored boxes) are no objects, and a detection
that lies in one by half of its area or more is left out, unless it has an IoU of 0.5 with an
object. Pearson's and Spearman's correlation of score and IoU are over all detections of the test
that are left, and over those of them with an IoU of at least 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.comparison.statistics import Floats, pearson, spearman
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import Table
from dynamic_atss.evaluation.voc import MIN_IOU, box_iou, pairs

BINS = 10  # of the score, of equal width
_IN_CROWD = 0.5  # share of the area


class Agreement(NamedTuple):
    """detections: that count · left_out: in crowds · matched: of them with an IoU of 0.5 ·
    pearson, spearman: of score and IoU, of all and of the matched ones; None where undefined ·
    counts, ious (BINS,): by score from 0 to 1, how many there are and their mean IoU, None of none
    """

    detections: int
    left_out: int
    matched: int
    pearson: float | None
    spearman: float | None
    pearson_matched: float | None
    spearman_matched: float | None
    counts: list[int]
    ious: list[float | None]


def agreement(table: Table, truth: TruthTable) -> Agreement:
    """Of the detections of a test, and what was to be found."""
    best, covered = best_ious(table, truth)
    kept = (best >= MIN_IOU) | ~covered
    score, iou = table[kept, 5], best[kept]
    matched = iou >= MIN_IOU
    place = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, iou, BINS)
    return Agreement(
        detections=len(iou),
        left_out=int((~kept).sum()),
        matched=int(matched.sum()),
        pearson=pearson(score, iou),
        spearman=spearman(score, iou),
        pearson_matched=pearson(score[matched], iou[matched]),
        spearman_matched=spearman(score[matched], iou[matched]),
        counts=counts.tolist(),
        ious=[float(s / n) if n else None for s, n in zip(sums, counts, strict=True)],
    )


def best_ious(table: Table, truth: TruthTable) -> tuple[Floats, NDArray[np.bool_]]:
    """(D,) the largest IoU with an object of its class in its image · (D,) whether it lies in a
    crowd."""
    detection, box = pairs(table, truth)
    crowd = truth.crowd[box]
    best = np.zeros(len(table))
    objects = detection[~crowd]
    iou = box_iou(table[objects, 1:5], truth.boxes[box[~crowd]])
    np.maximum.at(best, objects, iou)
    covered = np.zeros(len(table), np.bool_)
    inside = _share(table[detection[crowd], 1:5], truth.boxes[box[crowd]]) >= _IN_CROWD
    covered[detection[crowd][inside]] = True
    return best, covered


def _share(boxes: Floats, regions: Floats) -> Floats:
    """(n,) of the area of boxes x y w h that lies in aligned regions."""
    low = np.maximum(boxes[:, :2], regions[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], regions[:, :2] + regions[:, 2:])
    area = boxes[:, 2:].prod(1)
    inside = np.clip(high - low, 0, None).prod(1)
    return np.divide(inside, area, out=np.zeros_like(inside), where=area > 0)
