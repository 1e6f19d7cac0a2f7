"""PASCAL VOC box evaluation (Everingham et al., IJCV 2010): AP at IoU 0.5, by category.

As in the devkit: a detection belongs to the box of its image and category that it overlaps most,
taken or not; of several with one box only the best counts; difficult boxes count neither way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import Table, result_table
from dynamic_atss.evaluation.scores import UNDEFINED, VocScores, by_name

MIN_IOU = 0.5
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def evaluate_voc(truth: TruthTable, results: Sequence[Mapping[str, Any]] | Table) -> VocScores:
    """VOC's scores of COCO results or their table; `crowd` of the truth are the difficult boxes.

    Boxes are x y w h, so that the IoU of VOC, whose boxes include their last pixel, is that of
    plain rectangles. Equal scores are taken in the order of the results (the devkit's sort is
    stable, too); equal overlaps go to the first box.

    Raises:
        UserError: the results are not in COCO's format.
    """
    table = result_table(results, "results")
    table = table[np.argsort(-table[:, 5], kind="stable")]
    categories = table[:, 6].astype(np.int64)
    box = best_boxes(table, truth)
    ignored = np.zeros(len(table), bool)
    ignored[box >= 0] = truth.crowd[box[box >= 0]]
    first = _first_of_each(box)
    curves = {}
    for category in (c["id"] for c in truth.categories):
        total = int((~truth.crowd[truth.category_ids == category]).sum())
        counted = first[(categories == category) & ~ignored]
        curves[category] = (np.cumsum(counted), total)
    return VocScores(
        all_points=by_name(truth.categories, lambda i: all_point_ap(*curves[i])),
        eleven_points=by_name(truth.categories, lambda i: eleven_point_ap(*curves[i])),
    )


def all_point_ap(correct: Ints, total: int) -> float:
    """Area under the precision-recall curve, precision made non-increasing (VOC 2010 and later).

    correct (D,): how many of the 1, 2, ... D best detections are right · total: boxes to be found.
    -1 if there are none.
    """
    if not total:
        return UNDEFINED
    steps = np.diff(correct, prepend=0) / total
    return float((steps * _precision(correct)).sum())


def eleven_point_ap(correct: Ints, total: int) -> float:
    """Mean of the best precision at recall 0, 0.1, ..., 1 or more (VOC 2007); see `all_point_ap`.

    Recalls are compared as integers: in floating point 3 of 10 are less than 3 * 0.1.
    """
    if not total:
        return UNDEFINED
    first = np.searchsorted(10 * correct, total * np.arange(11))
    return float(np.append(_precision(correct), 0.0)[first].mean())


def _precision(correct: Ints) -> Floats:
    """(D,) the best precision from each detection on."""
    precision = correct / np.arange(1, len(correct) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def best_boxes(table: Floats, truth: TruthTable, min_iou: float = MIN_IOU) -> Ints:
    """(D,) for each detection the box of its image and category that it overlaps most, -1 where
    that is below `min_iou`."""
    detection, box = pairs(table, truth)
    iou = box_iou(table[detection, 1:5], truth.boxes[box])
    best = np.full(len(table), -1, np.int64)
    # Ascending IoU, then descending place: the last pair of a detection wins.
    by_iou = np.lexsort((-box, iou))
    by_iou = by_iou[iou[by_iou] >= min_iou]
    best[detection[by_iou]] = box[by_iou]
    return best


def pairs(table: Floats, truth: TruthTable) -> tuple[Ints, Ints]:
    """(M,), (M,) every detection with every box of its image and category, by their places; the
    pairs of a detection follow each other."""
    group, truth_group = _groups(table, truth)
    order = np.argsort(truth_group, kind="stable")
    ordered = truth_group[order]
    first = np.searchsorted(ordered, group, side="left")
    count = np.searchsorted(ordered, group, side="right") - first
    detection = np.repeat(np.arange(len(table)), count)
    # The k-th pair of a detection is with the k-th box of its group.
    k = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    return detection, order[first[detection] + k]


def _groups(table: Floats, truth: TruthTable) -> tuple[Ints, Ints]:
    """One number for each pair of image and category: of the detections and of the boxes."""
    pairs = np.concatenate(
        [table[:, [0, 6]].astype(np.int64), np.stack([truth.image_ids, truth.category_ids], 1)]
    )
    number = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return number[: len(table)], number[len(table) :]


def box_iou(a: Floats, b: Floats) -> Floats:
    """IoU of aligned boxes x y w h, (n,)."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _first_of_each(box: Ints) -> NDArray[np.bool_]:
    """(D,) whether a detection has a box, and none before it has the same."""
    first = np.zeros(len(box), bool)
    first[np.unique(box, return_index=True)[1]] = True
    return first & (box >= 0)
