"""Defines Dynamic ATSS, which selects positives by predicted IoU + anchor IoU.

Zhang et al., J. Imaging 2022, arXiv 2201.09396.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    anchor_iou,
    box_sides,
    inside_of,
    note,
    predicted_iou,
    resolve,
    std,
)
from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

COMBINE = ("sum", "mean", "product")
USE = ("both", "predicted", "anchor")


class DynamicATSS:
    """Selects candidates whose combined IoU reaches an adaptive threshold of the box.

    Quality = IoU of the predicted box, which is also the class target. The defaults give the
    published rule.

    Args:
        topk: candidate locations of a box on each level.
        combine: how the two IoUs form the score. "sum": the threshold is the sum of both means and
            both standard deviations, as published. "mean", "product": the threshold is the mean +
            standard deviation of the combined score, as in ATSS.
        use: "both" IoUs, or only "predicted" or "anchor".
        warmup: iterations in which the weight of the predicted IoU (in a product, its power) rises
            from 0 to 1, because the first predictions say nothing about the boxes. 0: none.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = True
    quality_name = "IoU"
    needs_size = True

    def __init__(
        self, topk: int = 9, combine: str = "sum", use: str = "both", warmup: int = 0
    ) -> None:
        check.integer(1, topk=topk)
        check.integer(0, warmup=warmup)
        check.one_of(COMBINE, combine=combine)
        check.one_of(USE, use=use)
        if use != "both" and (combine != "sum" or warmup):
            raise ValueError(f'combine and warmup need use "both"; use is {use!r}')
        self.topk = topk
        self.combine, self.use, self.warmup = combine, use, warmup
        self.needs_size = use != "predicted"
        terms = ("predicted", "anchor") if use == "both" else (use,)
        self.score = f"{' x '.join(terms) if combine == 'product' else ' + '.join(terms)} IoU"

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = nearest_candidates(priors, gt, self.topk)
        # score
        predicted = predicted_iou(predictions, gt, pairs)
        ious = torch.stack((predicted, anchor_iou(priors, gt, pairs)))
        terms = self._terms(ious, predictions.iteration)
        combined = terms.prod(0) if self.combine == "product" else terms.sum(0)
        # select, as released: the sum of the two standard deviations, not the deviation of the sum
        if self.combine != "sum":
            terms = combined[None]
        threshold = terms.mean(-1, keepdim=True).sum(0) + std(terms).sum(0)
        inside = inside_of(box_sides(priors, gt, pairs))
        note(score=self.score, threshold=threshold, inside=inside)
        selected = (combined >= threshold) & inside
        # resolve
        return resolve(pairs, selected, combined, predicted, predictions.boxes.shape[:2])

    def _terms(self, ious: Tensor, iteration: int) -> Tensor:
        """Chooses among predicted and anchor IoUs (2, T, K). Weighs the predicted IoU in warmup."""
        if self.use != "both":
            return ious[USE.index(self.use) - 1][None]
        if iteration >= self.warmup:
            return ious
        weight = iteration / self.warmup
        predicted = ious[0] ** weight if self.combine == "product" else ious[0] * weight
        return torch.stack((predicted, ious[1]))
