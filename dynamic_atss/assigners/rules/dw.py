"""Defines DW, which weighs every prior inside a box both as a positive and as background.

Li et al. (Dual Weighting), CVPR 2022, arXiv 2203.09730; released as github.com/strongwolf/DW.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    Pairs,
    center_offsets,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
    winning,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention, giou
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

EPS = 1e-12  # in quotients, as released
SHARE = 0.25  # factor of the positive terms in the loss, as released
SOFT_FOCAL = 0.75  # factor of the background terms in "soft_focal"; the release has none


class DW:
    """Weighs each pair by p = class score * exp(-beta * GIoU loss) and a Gaussian g.

    g is centred on the box. The positive weight is exp(mu p) p g / (sum of exp(3 p) p g over the
    priors inside the box). The negative weight falls with the IoU of the predicted box. It is 1 for
    an IoU up to 0.5, and 0 for the largest IoU of the box. Quality = 1.

    The positive terms are divided by the number of boxes, and the background terms by the sum of
    (1 - negative weight), both at least 1. With MODEL.CLASS_LOSS "soft_focal" and REG_LOSS_WEIGHT 5
    (= beta) this gives the release's loss.

    Differences from the release:
        A prior inside several boxes learns only the box of its largest positive weight. The
        release adds the terms of all boxes.
        The class score has no objectness. The refinement of boxes belongs to the release's head.

    Args:
        sigma: of the Gaussian in strides.
        beta: factor of the GIoU loss in p.
        mu: factor of p in the positive weight.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = True
    quality_name = "objectness"
    needs_size = False

    def __init__(self, sigma: float = 1.11, beta: float = 5.0, mu: float = 5.0) -> None:
        check.at_least(0.01, sigma=sigma)
        check.at_least(0, beta=beta, mu=mu)
        self.sigma, self.beta, self.mu = sigma, beta, mu

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt)
        # score
        positive = self._positive(priors, gt, predictions, pairs)
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as in the release
        negative = _negative(pairs, overlap, len(gt))
        # select and resolve
        shape = predictions.boxes.shape[:2]
        note(score="positive weight", negative_weight=negative)
        index = resolve(pairs, pairs.exists, positive, positive, shape).gt_index
        won = winning(pairs, index)
        weight, negative = (_of_winner(pairs, won, x, shape) for x in (positive, negative))
        quality = (weight > 0).to(weight.dtype)
        unlike_background = torch.where(index >= 0, 1 - negative, 0.0).sum().clamp(min=1)
        boxes = torch.full_like(unlike_background, max(len(gt), 1))
        divisors = torch.stack((boxes, SOFT_FOCAL * unlike_background))
        return Assignment(index, quality, SHARE * weight, negative, divisors=divisors)

    def _positive(
        self, priors: Priors, gt: GroundTruth, predictions: Predictions, pairs: Pairs
    ) -> Tensor:
        """Gives the positive weights, (M,)."""
        predicted = predictions.boxes.flatten(0, 1).index_select(0, pairs.flat)
        loss = 1 - giou(predicted, gt.boxes.index_select(0, pairs.box))
        score = logit_of_class(predictions, gt, pairs).sigmoid() * (-self.beta * loss).exp()
        x, y = center_offsets(priors, gt, pairs) / priors.strides.index_select(0, pairs.prior)
        near = (-(x * x + y * y) / (2 * self.sigma**2)).exp()
        terms = ((3 * score).exp() * score * near).where(pairs.exists, 0.0).double()
        sums = terms.new_zeros(len(gt)).index_add_(0, pairs.box, terms).clamp(min=EPS)
        sum_of_box = sums.index_select(0, pairs.box).to(score.dtype)
        return (self.mu * score).exp() * score * near / sum_of_box


def _negative(pairs: Pairs, overlap: Tensor, boxes: int) -> Tensor:
    """Gives the negative weights, (M,)."""
    most, least = (
        torch.full((boxes,), start, device=overlap.device, dtype=overlap.dtype)
        .scatter_reduce_(0, pairs.box, overlap.where(pairs.exists, start), kind)
        .index_select(0, pairs.box)
        for start, kind in ((-torch.inf, "amax"), (torch.inf, "amin"))
    )
    low, high = _fall(most), _fall(least).clamp(max=1)
    weight = (_fall(overlap) - low + EPS) / (high - low + EPS)
    return weight.where(overlap >= 0.5, 1.0)


def _fall(overlap: Tensor) -> Tensor:
    """Gives 1 for an IoU of 0.5 and 0 for an IoU of 1. It is linear in the square of the IoU."""
    return (1 - overlap.square()) * 4 / 3


def _of_winner(pairs: Pairs, won: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Gives the value (M,) of the pair that has won each prior, 0 without a winner, (N, P)."""
    slots = shape[0] * shape[1]
    place = torch.where(won, pairs.flat, slots)
    return values.new_zeros(slots + 1).scatter_(0, place, values)[:slots].view(shape)
