"""SimOTA: every box takes as many of the cheapest priors around its centre as its IoUs add up to.

Ge et al. (YOLOX), arXiv 2107.08430.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.base import (
    Pairs,
    at_least,
    best_of_box,
    box_sides,
    center_offsets,
    inside_of,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
    whole,
)
from dynamic_atss.assigners.nearest import square_candidates
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

EPS = 1e-8  # of the IoU's logarithm, as published
OUTSIDE = 1e5  # cost of a prior outside of the box, as published


class SimOTA:
    """Candidates are the priors within `radius` strides of the box's centre, on every level; cost =
    binary cross-entropy of the classes + iou_weight * -log IoU, and 1e5 for those outside of the
    box, which so come last; a prior that several boxes take goes to the one that it costs least.

    Quality = predicted IoU, which is also the class target, as in the release. The release compares
    every box with every point that is in any box or near any centre (P x T), and adds the 1e5 to
    all that are not both in this box and near this centre. The paper's words, "within a fixed
    center region", are taken as they stand, so that the work is 25 points a level for boxes of any
    size; sums of IoUs and conflicts are over a box's own candidates, too. There is no
    objectness in the class score.

    Args:
        radius: of the centre region in strides.
        topk: IoUs that are added up.
        iou_weight: of the IoU's part of the cost.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = True
    quality_name = "IoU"
    needs_size = False

    def __init__(self, radius: float = 2.5, topk: int = 10, iou_weight: float = 3.0) -> None:
        whole(1, topk=topk)
        at_least(0.5, radius=radius)
        at_least(0, iou_weight=iou_weight)
        self.radius = radius
        self.topk = topk
        self.iou_weight = iou_weight

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = _around_center(priors, gt, self.radius)
        # score
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as the release
        overlap = torch.where(pairs.exists, overlap, 0.0)
        cost = _class_cost(predictions, gt, pairs) - self.iou_weight * (overlap + EPS).log()
        inside = inside_of(box_sides(priors, gt, pairs), margin=0)
        cost = cost.double() + OUTSIDE * ~inside  # a float32 would lose the rest of the cost
        # select
        largest = overlap.topk(min(self.topk, overlap.shape[1]), dim=1).values
        count = largest.sum(1).long().clamp(min=1)
        note(score="-cost", inside=inside)
        best, places = best_of_box(pairs, -cost, self.topk, len(gt))
        selected = torch.arange(self.topk, device=count.device) < count[:, None]
        note(score="-cost", sum_of_IoUs=count[:, None], within_sum_of_IoUs=selected)
        # resolve
        shape = predictions.boxes.shape[:2]
        return resolve(best, selected, -cost.take(places), overlap.take(places), shape)


def _class_cost(predictions: Predictions, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """The cross-entropy of all classes' scores with 1 at the box's class and 0 elsewhere: what all
    0 costs the prior, which its boxes share, less the logit."""
    logits = predictions.logits.flatten(0, 1)
    if pairs.flat.numel() < len(logits):  # few boxes: most priors are nobody's candidates
        negative = F.softplus(logits[pairs.flat]).sum(-1)
    else:
        negative = F.softplus(logits).sum(-1)[pairs.flat]
    return negative - logit_of_class(predictions, gt, pairs)


def _around_center(priors: Priors, gt: GroundTruth, radius: float) -> Pairs:
    """(T, K): the priors less than `radius` strides from each box's centre, both ways."""
    most = max(max(level.height, level.width) for level in priors.levels)
    pairs = square_candidates(priors, gt, min(math.ceil(2 * radius), most))
    away = center_offsets(priors, gt, pairs).abs().amax(0)
    near = away < radius * priors.strides[pairs.prior]
    return pairs._replace(exists=pairs.exists & near)
