"""Computes PASCAL VOC's AP at IoU 0.5 by category (Everingham et al., IJCV 2010).

As in the devkit, a detection belongs to the box of its image and category that it overlaps most,
even if another detection has that box. Of several detections of a box, only the one with the
highest score is correct. Detections of difficult boxes are ignored.
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
    """Computes VOC's scores of COCO results or of their table.

    `truth.crowd` marks difficult boxes. The IoU of boxes x y w h is VOC's, whose corners include
    the last pixel. Detections with equal scores keep the order of the results, as in the devkit. Of
    equal overlaps the first box wins.

    Raises:
        UserError: if the results are not in COCO's format.
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
    """Computes the area under the precision-recall curve (VOC 2010 and later).

    Returns -1 without boxes.

    Args:
        correct: (D,) numbers of correct detections among the 1, 2, ..., D best.
        total: number of boxes.
    """
    if not total:
        return UNDEFINED
    steps = np.diff(correct, prepend=0) / total
    return float((steps * _precision(correct)).sum())


def eleven_point_ap(correct: Ints, total: int) -> float:
    """Averages the best precision at recalls >= 0, 0.1, ..., 1 (VOC 2007).

    Takes the arguments of `all_point_ap`. Compares recalls as integers, because 3 / 10 is less than
    3 * 0.1 in floating point.
    """
    if not total:
        return UNDEFINED
    first = np.searchsorted(10 * correct, total * np.arange(11))
    return float(np.append(_precision(correct), 0.0)[first].mean())


def _precision(correct: Ints) -> Floats:
    """Returns (D,) the highest precision at or after each detection."""
    precision = correct / np.arange(1, len(correct) + 1)
    return np.maximum.accumulate(precision[::-1])[::-1]


def best_boxes(table: Floats, truth: TruthTable, min_iou: float = MIN_IOU) -> Ints:
    """Returns (D,) the box of the same image and category that each detection overlaps most.

    The value is -1 if that IoU is below `min_iou`.
    """
    detection, box = pairs(table, truth)
    iou = box_iou(table[detection, 1:5], truth.boxes[box])
    best = np.full(len(table), -1, np.int64)
    # Sorted by ascending IoU, then descending index. The last pair of a detection wins.
    by_iou = np.lexsort((-box, iou))
    by_iou = by_iou[iou[by_iou] >= min_iou]
    best[detection[by_iou]] = box[by_iou]
    return best


def pairs(table: Floats, truth: TruthTable) -> tuple[Ints, Ints]:
    """Pairs each detection with all boxes of its image and category.

    Returns two arrays (M,): indices of detections, ascending, and indices of boxes.
    """
    group, truth_group = _groups(table, truth)
    order = np.argsort(truth_group, kind="stable")
    ordered = truth_group[order]
    first = np.searchsorted(ordered, group, side="left")
    count = np.searchsorted(ordered, group, side="right") - first
    detection = np.repeat(np.arange(len(table)), count)
    # Pair k of a detection has box k of its group.
    k = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    return detection, order[first[detection] + k]


def _groups(table: Floats, truth: TruthTable) -> tuple[Ints, Ints]:
    """Numbers the pairs (image, category).

    Returns the numbers of detections (D,) and boxes (A,).
    """
    pairs = np.concatenate(
        [table[:, [0, 6]].astype(np.int64), np.stack([truth.image_ids, truth.category_ids], 1)]
    )
    number = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return number[: len(table)], number[len(table) :]


def box_iou(a: Floats, b: Floats) -> Floats:
    """Computes the IoU (n,) of boxes a[i] and b[i], each x y w h."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    inter = np.clip(high - low, 0, None).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _first_of_each(box: Ints) -> NDArray[np.bool_]:
    """Returns (D,) bool, True for the first detection of each box."""
    first = np.zeros(len(box), bool)
    first[np.unique(box, return_index=True)[1]] = True
    return first & (box >= 0)
