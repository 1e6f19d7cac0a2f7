"""RTMDet's dynamic soft labels: SimOTA with the IoU in its class cost, and a soft centre prior.

Lyu et al. (RTMDet), arXiv 2212.07784.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.base import (
    Pairs,
    at_least,
    best_of_box,
    center_offsets,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
    whole,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

EPS = 1e-7  # of the IoU's logarithm, as published
FARTHEST = 300.0  # an exponent of 10 that a float64 holds


class DynamicSoftLabel:
    """Candidates are the priors inside the box; cost = quality focal loss with the predicted IoU as
    the soft label + iou_weight * -log IoU + 10^(distance from the centre in strides - radius). A
    box takes as many of the cheapest as its `topk` largest IoUs add up to, at least one.

    A prior that several boxes take goes to the one that it costs least. Quality = predicted IoU,
    which is also the class target. The release
    compares every box with the priors inside any box of the image, so that a box may count, and
    take, priors outside of it; here a box has those inside it alone.

    Args:
        radius: of the soft centre prior in strides; beyond it the cost of the distance exceeds 1.
        topk: IoUs that are added up.
        iou_weight: of the IoU's part of the cost.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = True
    quality_name = "IoU"
    needs_size = False

    def __init__(self, radius: float = 3.0, topk: int = 13, iou_weight: float = 3.0) -> None:
        whole(1, topk=topk)
        at_least(0, radius=radius, iou_weight=iou_weight)
        self.radius = radius
        self.topk = topk
        self.iou_weight = iou_weight

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt)
        # score
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as the release
        cost = _class_cost(predictions, gt, pairs, overlap)
        cost = cost - self.iou_weight * (overlap + EPS).log()
        cost = cost + self._distance_cost(priors, gt, pairs)
        # select
        count = self._sum_of_largest(pairs, overlap, len(gt))
        note(score="-cost")
        best, places = best_of_box(pairs, -cost, self.topk, len(gt))
        selected = torch.arange(self.topk, device=count.device) < count[:, None]
        cost, overlap = (
            x.index_select(0, places.flatten()).view_as(places) for x in (cost, overlap)
        )
        note(score="-cost", sum_of_IoUs=count[:, None], within_sum_of_IoUs=selected)
        # resolve
        return resolve(best, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _distance_cost(self, priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
        """(M,) float64, which holds what a float32 does not: 10^(strides across a large box)."""
        x, y = center_offsets(priors, gt, pairs)
        strides = priors.strides.index_select(0, pairs.prior)
        distance = (x * x + y * y).sqrt() / strides
        return 10 ** (distance.double() - self.radius).clamp(max=FARTHEST)

    def _sum_of_largest(self, pairs: Pairs, overlap: Tensor, boxes: int) -> Tensor:
        """(T,) int64, at least 1: the sum of each box's `topk` largest IoUs, rounded down."""
        places, _, _, exists = BEST_OF_BOX(*pairs, overlap, self.topk, boxes)
        largest = overlap.index_select(0, places.flatten()).view_as(places)
        return torch.where(exists, largest, 0.0).sum(1).long().clamp(min=1)


def _class_cost(predictions: Predictions, gt: GroundTruth, pairs: Pairs, label: Tensor) -> Tensor:
    """(M,) the quality focal loss of all classes with `label` (M,) at the box's class and 0
    elsewhere."""
    of_all = _as_background(predictions.logits.flatten(0, 1)).sum(-1).index_select(0, pairs.flat)
    logit = logit_of_class(predictions, gt, pairs)
    entropy = F.softplus(logit) - label * logit
    return of_all - _as_background(logit) + entropy * (label - logit.sigmoid()).square()


def _as_background(logits: Tensor) -> Tensor:
    return F.softplus(logits) * logits.sigmoid().square()
