"""Max-IoU: positives by a fixed threshold on the anchor IoU.

Lin et al., ICCV 2017 (RetinaNet), after Ren et al., NeurIPS 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Pairs, anchor_iou, at_least, centerness, inside, resolve
from dynamic_atss.assigners.pairs import ground_truth_of, level_numbers, priors_of
from dynamic_atss.assigners.ranges import constant, priors_within
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
        # propose, score, resolve and select: it is the prior that chooses
        index = self._labels(priors, gt, len(predictions.boxes))
        if self.inside_only:
            outside = (index >= 0) & ~inside(priors.centers, rows(gt.boxes, index))
            index = torch.where(outside, IGNORE, index)
        return Assignment(index, _centerness(priors, gt, index))

    def _labels(self, priors: Priors, gt: GroundTruth, images: int) -> Tensor:
        """(N, P): the gt index of the largest IoU, or IGNORE, or BACKGROUND."""
        margin = tuple(side + 2.0 for side in priors.largest)  # 2: both boxes' "+1"
        lattice = (level_numbers(priors.levels), priors.offset, margin)
        boxes = (priors.boxes, gt.boxes, gt.image, gt.extent)
        return _LABELS(*boxes, *lattice, images, self.positive, self.negative)


def _centerness(priors: Priors, gt: GroundTruth, index: Tensor) -> Tensor:
    """(N, P) of the positives, 0 elsewhere."""
    flat, prior = index.flatten(), priors.numbers.expand_as(index).flatten()
    return centerness(priors, gt, Pairs(flat, prior, flat, flat)).view_as(index)


def _labels(
    anchors: Tensor,
    boxes: Tensor,
    image: Tensor,
    extent: Tensor,
    levels: list[int],
    offset: float,
    margin: list[float],
    images: int,
    positive: float,
    negative: float,
) -> Tensor:
    priors = priors_of(anchors, levels, offset)
    gt = ground_truth_of(boxes, image, image, extent)
    half = constant(tuple(margin), boxes.device)[:, None] / 2
    region = torch.cat((boxes[:, None, :2] - half, boxes[:, None, 2:] + half), dim=-1)
    pairs = priors_within(priors, gt, region, margin=margin)
    score = anchor_iou(priors, gt, pairs, extra=1).where(pairs.exists, 0.0)
    best = resolve(pairs, score > 0, score, score, (images, len(priors)))
    wins = (best.quality >= positive) | _best_of_a_box(pairs, score, len(boxes), best)
    between = torch.where(best.quality >= negative, IGNORE, BACKGROUND)
    return torch.where(wins, best.gt_index, between)


def _best_of_a_box(pairs: Pairs, score: Tensor, boxes: int, found: Assignment) -> Tensor:
    """(N, P) bool: no prior has a larger IoU with some box that it overlaps."""
    best = score.new_zeros(boxes).scatter_reduce_(0, pairs.box, score, "amax")
    slots = found.gt_index.numel()
    flat = torch.where((score > 0) & (score == best.index_select(0, pairs.box)), pairs.flat, slots)
    claimed = flat.new_zeros(slots + 1, dtype=torch.bool).scatter_(0, flat, True)
    return claimed[:slots].view_as(found.gt_index)


_LABELS = define(
    "max_iou_labels(Tensor priors, Tensor boxes, Tensor image, Tensor extent, int[] levels,"
    " float offset, float[] margin, int images, float positive, float negative) -> Tensor",
    _labels,
    lambda priors, boxes, image, *rest: image.new_empty(rest[4], len(priors)),
)
