"""Measures how well the scores of detections agree with their IoUs.

Dynamic ATSS and DSLA reduce the difference between the two. If they differ, NMS may keep a
detection that is placed worse than the one that it suppresses.

The IoU of a detection is its largest IoU with an object of its class in its image, 0 without such
an object. Crowds (VOC's difficult boxes, ignored boxes) are not objects. A detection with half of
its area or more in a crowd is left out, unless it has an IoU of 0.5 with an object. Pearson's and
Spearman's correlations are computed over all remaining detections, and over those with an IoU of
at least 0.5.
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
    """Holds numbers of the agreement of scores and IoUs.

    Attributes:
        detections: number of detections that count.
        left_out: number of detections left out because they lie in crowds.
        matched: number of counted detections with an IoU of 0.5 or more.
        pearson, spearman: correlation of score and IoU over all counted detections; None if it is
            undefined.
        pearson_matched, spearman_matched: the same over the matched ones.
        counts, ious: (BINS,) number of detections and their mean IoU by score from 0 to 1. The
            mean of an empty bin is None.
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
    """Compares scores and IoUs of a test's detections."""
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
    """Gives for each of D detections its largest IoU, and whether it lies in a crowd, (D,) each.

    The IoU is that with an object of its class in its image.
    """
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
    """Gives the share of the area of each box (x y w h) that lies in its region, (n,)."""
    low = np.maximum(boxes[:, :2], regions[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], regions[:, :2] + regions[:, 2:])
    area = boxes[:, 2:].prod(1)
    inside = np.clip(high - low, 0, None).prod(1)
    return np.divide(inside, area, out=np.zeros_like(inside), where=area > 0)
