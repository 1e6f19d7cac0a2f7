"""Max-IoU: positives by a fixed threshold on the anchor IoU.

Lin et al., ICCV 2017 (RetinaNet), after Ren et al., NeurIPS 2015.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Pairs, at_least, centerness, inside, resolve
from dynamic_atss.assigners.pairs import level_numbers, levels_of
from dynamic_atss.assigners.ranges import constant, list_locations, most_locations
from dynamic_atss.boxes import iou
from dynamic_atss.ops.library import define
from dynamic_atss.types import (
    BACKGROUND,
    IGNORE,
    Assignment,
    GroundTruth,
    Predictions,
    Priors,
    rows,
)


class MaxIoU:
    """Every prior belongs to its box of the largest IoU, or is ignored between the thresholds.

    A prior that is one of the best of some box is positive below the threshold, too (also for
    another box than that one, as in the releases). Quality = centerness of the prior's centre.

    Args:
        positive, negative: thresholds of the IoU.
        inside_only: positives whose centre is not inside their box are ignored.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = True

    def __init__(
        self, positive: float = 0.5, negative: float = 0.4, inside_only: bool = False
    ) -> None:
        at_least(0, positive=positive, negative=negative)
        if negative > positive:
            raise ValueError(f"negative {negative} must not be above positive {positive}")
        self.positive, self.negative = positive, negative
        self.inside_only = inside_only

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose, score and resolve, before selection: it is the prior that chooses
        gt_index, overlap, claimed = _largest_overlaps(priors, gt, len(predictions.boxes))
        # select
        positive = (overlap >= self.positive) | claimed
        between = overlap >= self.negative
        if self.inside_only:
            outside = ~inside(priors.centers, rows(gt.boxes, gt_index))
            between |= positive & outside
            positive &= ~outside
        index = torch.where(positive, gt_index, torch.where(between, IGNORE, BACKGROUND))
        return Assignment(index, _centerness(priors, gt, index))


def _largest_overlaps(
    priors: Priors, gt: GroundTruth, images: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Each (N, P): the gt index of the largest IoU, or BACKGROUND; this IoU; bool, whether no prior
    has a larger IoU with some box that this one overlaps."""
    margin = tuple(side + 2.0 for side in priors.largest)  # 2: both boxes' "+1"
    length = most_locations(gt, priors.levels, margin=margin)
    levels = level_numbers(priors.levels)
    boxes = (priors.boxes, gt.boxes, gt.image)
    return _OVERLAPS(*boxes, levels, priors.offset, margin, images, length)


def _centerness(priors: Priors, gt: GroundTruth, index: Tensor) -> Tensor:
    """(N, P) of the positives, 0 elsewhere."""
    flat, prior = index.flatten(), priors.numbers.expand_as(index).flatten()
    return centerness(priors, gt, Pairs(flat, prior, flat, flat)).view_as(index)


def _overlaps(
    priors: Tensor,
    boxes: Tensor,
    image: Tensor,
    levels: list[int],
    offset: float,
    margin: list[float],
    images: int,
    length: int,
) -> tuple[Tensor, Tensor, Tensor]:
    half = constant(tuple(margin), boxes.device)[:, None] / 2
    region = torch.cat((boxes[:, None, :2] - half, boxes[:, None, 2:] + half), dim=-1)
    anchors = len(priors) // max(sum(x.locations for x in levels_of(levels)), 1)
    pairs = Pairs(*list_locations(boxes, image, region, levels, offset, anchors, length))
    score = iou(priors.index_select(0, pairs.prior), boxes.index_select(0, pairs.box), extra=1)
    score = torch.where(pairs.exists, score, 0.0)
    best = resolve(pairs, score > 0, score, score, (images, len(priors)))
    return best.gt_index, best.quality, _best_of_a_box(pairs, score, len(boxes), best)


def _best_of_a_box(pairs: Pairs, score: Tensor, boxes: int, found: Assignment) -> Tensor:
    """(N, P) bool: no prior has a larger IoU with some box that it overlaps."""
    best = score.new_zeros(boxes).scatter_reduce_(0, pairs.box, score, "amax")
    slots = found.gt_index.numel()
    flat = torch.where((score > 0) & (score == best.index_select(0, pairs.box)), pairs.flat, slots)
    claimed = flat.new_zeros(slots + 1, dtype=torch.bool).scatter_(0, flat, True)
    return claimed[:slots].view_as(found.gt_index)


def _fake_overlaps(
    priors: Tensor, boxes: Tensor, image: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (rest[-2], len(priors))
    index = image.new_empty(shape)
    return index, priors.new_empty(shape), index.new_empty(shape, dtype=torch.bool)


_OVERLAPS = define(
    "largest_overlaps(Tensor priors, Tensor boxes, Tensor image, int[] levels, float offset,"
    " float[] margin, int images, int length) -> (Tensor, Tensor, Tensor)",
    _overlaps,
    _fake_overlaps,
)
