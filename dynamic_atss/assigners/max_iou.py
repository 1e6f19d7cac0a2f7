"""Max-IoU: positives by a fixed threshold on the anchor IoU.

Lin et al., ICCV 2017 (RetinaNet), after Ren et al., NeurIPS 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Pairs, at_least, inside, resolve
from dynamic_atss.assigners.ranges import constant, priors_within
from dynamic_atss.boxes import centerness, iou
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
        # propose
        pairs = _overlapping(priors, gt)
        # score
        boxes = gt.boxes.index_select(0, pairs.box)
        score = iou(priors.boxes.index_select(0, pairs.prior), boxes, extra=1)
        score = torch.where(pairs.exists, score, 0.0)
        # resolve, before selection: it is the prior that chooses
        best = resolve(pairs, score > 0, score, score, predictions.boxes.shape[:2])
        # select
        positive = (best.quality >= self.positive) | _best_of_a_box(pairs, score, len(gt), best)
        between = ~positive & (best.quality >= self.negative)
        boxes = rows(gt.boxes, best.gt_index)
        if self.inside_only:
            outside = positive & ~inside(priors.centers, boxes)
            positive, between = positive & ~outside, between | outside
        index = torch.where(positive, best.gt_index, torch.where(between, IGNORE, BACKGROUND))
        return Assignment(index, torch.where(positive, centerness(priors.centers, boxes), 0.0))


def _overlapping(priors: Priors, gt: GroundTruth) -> Pairs:
    """The pairs with an IoU above 0, among others."""
    margin = tuple(side + 2.0 for side in priors.largest)  # 2: both boxes' "+1"
    half = constant(margin, gt.boxes.device)[:, None] / 2
    low, high = gt.boxes[:, None, :2] - half, gt.boxes[:, None, 2:] + half
    return priors_within(priors, gt, torch.cat((low, high), dim=-1), margin=margin)


def _best_of_a_box(pairs: Pairs, score: Tensor, boxes: int, found: Assignment) -> Tensor:
    """(N, P) bool: no prior has a larger IoU with some box that it overlaps."""
    best = score.new_zeros(boxes).scatter_reduce_(0, pairs.box, score, "amax")
    slots = found.gt_index.numel()
    flat = torch.where((score > 0) & (score == best.index_select(0, pairs.box)), pairs.flat, slots)
    claimed = flat.new_zeros(slots + 1, dtype=torch.bool).scatter_(0, flat, True)
    return claimed[:slots].view_as(found.gt_index)
