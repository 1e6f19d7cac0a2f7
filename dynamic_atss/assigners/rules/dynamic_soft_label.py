"""Defines RTMDet's dynamic soft labels: SimOTA with the IoU in the class cost, and a soft prior.

The soft prior is a cost that grows with the distance from the box's centre.

Lyu et al. (RTMDet), arXiv 2212.07784; released in mmdetection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.all_priors import (
    best_priors,
    concatenated,
    every_pair,
    flag_places,
    list_flagged,
    overlapping_pairs,
    readable,
    replaced,
)
from dynamic_atss.assigners.base import Pairs, best_of_box, note, resolve, take
from dynamic_atss.assigners.costs import SoftLabelCost
from dynamic_atss.assigners.dynamic_k import (
    flag_first,
    positives_per_box,
    sum_of_largest,
    with_cheapest,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

COST_OF_NO_OVERLAP = 16.0  # times iou_weight: such a pair costs at least 16.1 times that


class DynamicSoftLabel:
    """Assigns each box its n cheapest candidates. n is the sum of its `topk` largest IoUs, >= 1.

    Candidates are the priors inside any box of the image. Cost = quality focal loss with the
    predicted IoU as the soft label + iou_weight * -log IoU + 10^(strides from the centre - radius).
    If several boxes take a prior, it goes to the box of the image with the least cost, even to one
    that has not taken it. Quality = predicted IoU, which is also the class target.

    Args:
        radius: of the soft centre prior in strides. The distance costs more than 1 outside of it.
        topk: number of IoUs that are added up.
        iou_weight: of the IoU's term in the cost.
        candidates: "image": as released, with P x T numbers, some at a time. "box": only the priors
            inside the box, also for the sum and for conflicts. The work is per pair.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = True
    quality_name = "IoU"
    needs_size = False

    def __init__(
        self,
        radius: float = 3.0,
        topk: int = 13,
        iou_weight: float = 3.0,
        candidates: str = "image",
    ) -> None:
        check.integer(1, topk=topk)
        check.at_least(0, radius=radius, iou_weight=iou_weight)
        check.one_of(("image", "box"), candidates=candidates)
        self.radius, self.topk = radius, topk
        self.iou_weight, self.candidates = iou_weight, candidates

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt)
        # score and select
        cost_of = SoftLabelCost(priors, gt, predictions, self.iou_weight, self.radius, pairs.flat)
        if self.candidates == "image" and len(gt):
            pairs, selected = self._of_image(priors, gt, pairs, cost_of)
            cost, overlap = cost_of(pairs)
        else:
            pairs, selected, cost, overlap = self._of_box(gt, pairs, cost_of)
        # resolve
        note(score="-cost", within_sum_of_IoUs=selected)
        return resolve(pairs, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _of_box(
        self, gt: GroundTruth, pairs: Pairs, cost_of: SoftLabelCost
    ) -> tuple[Pairs, Tensor, Tensor, Tensor]:
        """Gives the cheapest priors inside each box, which it takes, cost and IoU, (T, topk)."""
        cost, overlap = cost_of(pairs)
        places, _, _, exists = BEST_OF_BOX(*pairs, overlap, self.topk, len(gt))
        sums = take(overlap, places).where(exists, 0.0).sum(1)
        note(score="-cost")
        best, places = best_of_box(pairs, -cost, self.topk, len(gt))
        return (
            best,
            flag_first(best, positives_per_box(sums)),
            take(cost, places),
            take(overlap, places),
        )

    def _of_image(
        self, priors: Priors, gt: GroundTruth, inside: Pairs, cost_of: SoftLabelCost
    ) -> tuple[Pairs, Tensor]:
        """Gives the pairs that may win, in one list (M,), and flags of those that are selected."""
        shape, most = cost_of.predictions.boxes.shape[:2], len(priors)
        if not torch.compiler.is_compiling():  # torch.compile does not know the list's length
            most = min(most, inside.flat.numel())
        candidate = flag_places(inside.flat, inside.exists, shape.numel()).view(shape)
        listed = list_flagged(candidate, most)
        parts, scores, sums = [], [], []
        for box, pairs, overlap in overlapping_pairs(priors, gt, cost_of.predictions, *listed):
            best, score = best_priors(box, pairs, -cost_of(pairs)[0], self.topk)
            parts.append(best)
            scores.append(score)
            sums.append(sum_of_largest(box, pairs, overlap, self.topk))
        best, count = concatenated(parts, 0), positives_per_box(torch.cat(sums))
        if readable(count):  # otherwise `best` is of all pairs
            sure = torch.cat(scores) > -self.iou_weight * COST_OF_NO_OVERLAP
            lacking = (flag_first(best, count) & sure).sum(1) < count
            for pairs in every_pair(priors, gt, *listed, lacking.nonzero().squeeze(1)):
                box, score = pairs.box.squeeze(1), -cost_of(pairs)[0]
                best = replaced(best, best_priors(box, pairs, score, self.topk)[0])
        return with_cheapest(priors, gt, cost_of, best, flag_first(best, count), shape)
