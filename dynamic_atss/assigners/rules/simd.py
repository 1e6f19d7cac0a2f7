"""Defines SimD, a similarity of anchor and box that adapts to the data set and selects positives.

Shi et al., IROS 2024, arXiv 2407.02394.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor, nn

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    Pairs,
    box_sides,
    centerness_of_tiny,
    has_pair,
    note,
    resolve,
)
from dynamic_atss.assigners.from_anchors import anchor_sides, box_size, distances
from dynamic_atss.assigners.ranges import priors_within
from dynamic_atss.boxes import centers
from dynamic_atss.types import IGNORE, Assignment, GroundTruth, Predictions, Priors, rows

VISDRONE = (6.13, 4.59)  # the release's means for the data set VisDrone
EPS = 1e-6  # added to widths, as published
ROUNDING = 1e-3  # tolerance of the exponent


class SimD(nn.Module):
    """Does max-IoU assignment with SimD instead of IoU.

    SimD = exp(-location - shape). These are the distances of the centres and of the sides in units
    of (side of the box + side of the anchor) / mean.

    A prior learns its box of the largest SimD if that is `positive` or more. It is background below
    `negative` and ignored in between. The best priors of a box are positive if their SimD is
    `least` or more. Quality = centerness with distances of at least 0.01 pixels, because tiny boxes
    have positives outside.

    The mean is that of |x of box - x of anchor| / (sum of the widths) over all pairs, and the same
    for y. It is learnt in the first `batches` iterations from resized and cropped images, starts
    with the release's mean, and is saved with the model. The rule waits for the device for it.

    Args:
        positive, negative, least: thresholds of SimD.
        means: fixed means of x and y. (): learnt.
        batches: number of iterations for learning the means.
        conflicts: which box gets a shared best prior: the "last" (as released) or the "best" one.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = True
    waits = True
    sums: Tensor

    def __init__(
        self,
        positive: float = 0.7,
        negative: float = 0.3,
        least: float = 0.3,
        means: Sequence[float] = (),
        batches: int = 1000,
        conflicts: str = "last",
    ) -> None:
        super().__init__()
        check.integer(0, batches=batches)
        check.two_numbers(means=means or VISDRONE)
        x, y = means or VISDRONE
        check.at_least(0.01, positive=positive, negative=negative, least=least, mean_x=x, mean_y=y)
        check.one_of(("last", "best"), conflicts=conflicts)
        if negative > positive:
            raise ValueError(f"negative is {negative}; it must not be above positive, {positive}")
        self.positive, self.negative, self.least = positive, negative, least
        self.batches, self.conflicts = 0 if means else batches, conflicts
        # The sums of x and of y, and the number of pairs. It starts as one pair.
        self.register_buffer("sums", torch.tensor([x, y, 1.0], dtype=torch.float64))

    @torch.no_grad()
    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        if self.training and predictions.iteration < self.batches:
            self.sums += distances(priors, gt).nan_to_num(0, 0, 0)  # ignores damaged boxes
        means = (self.sums[:2] / self.sums[2]).tolist()
        # propose
        pairs = self._near(priors, gt, means)
        # score
        score = similarity(priors, gt, pairs, means).where(pairs.exists, 0.0)
        most = score.new_zeros(len(gt)).scatter_reduce_(0, pairs.box, score, "amax")
        # select
        best = (score >= self.least) & (score == most.index_select(0, pairs.box))
        selected = best | (score >= self.positive)
        note(SimD=score, best_or_similar_enough=selected)
        # resolve; a similarity is at most 1, so best priors win with a score of 2 or more
        order = pairs.box.to(score.dtype) if self.conflicts == "last" else score
        order = torch.where(best, 2 + order, score)
        shape = predictions.boxes.shape[:2]
        quality = centerness_of_tiny(box_sides(priors, gt, pairs))
        found = resolve(pairs, selected, order, quality, shape)
        between = has_pair(pairs, score >= self.negative, shape) & ~found.positive
        return Assignment(torch.where(between, IGNORE, found.gt_index), found.quality)

    def _near(self, priors: Priors, gt: GroundTruth, means: Sequence[float]) -> Pairs:
        """Lists all pairs whose SimD may reach a threshold, (M,)."""
        most = -log(min(self.positive, self.negative, self.least)) + ROUNDING
        anchor = anchor_sides(priors, gt.convention)  # (L, A, 2)
        side = box_size(gt)[:, None, None]
        unit = (side + anchor) / anchor.new_tensor(means)
        left = most - ((side - anchor) / unit).square().sum(-1).sqrt()  # limit of the location
        half, center = (left[..., None] * unit).amax(2), centers(gt.boxes)[:, None]
        region = torch.cat((center - half, center + half), dim=-1)
        return priors_within(priors, gt, region, extent=2 * half.double().cpu())


def similarity(priors: Priors, gt: GroundTruth, pairs: Pairs, means: Sequence[float]) -> Tensor:
    """Gives the SimD of the pairs in (0, 1], (M,)."""
    anchor = priors.boxes.index_select(0, pairs.prior)
    box = rows(gt.boxes, pairs.box)
    side, other = (b[:, 2:] - b[:, :2] + (gt.convention.value + EPS) for b in (box, anchor))
    unit = (side + other) / side.new_tensor(means)
    location = ((centers(box) - centers(anchor)) / unit).square().sum(-1).sqrt()
    shape = ((side - other) / unit).square().sum(-1).sqrt()
    return (-(location + shape)).exp()
