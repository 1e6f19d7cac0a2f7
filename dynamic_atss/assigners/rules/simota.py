"""SimOTA: every box takes as many of the cheapest priors around its centre as its IoUs add up to.

Ge et al. (YOLOX), arXiv 2107.08430; released as github.com/Megvii-BaseDetection/YOLOX.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import (
    Pairs,
    at_least,
    best_of_box,
    box_sides,
    inside_of,
    note,
    one_of,
    resolve,
    whole,
)
from dynamic_atss.assigners.costs import PairCost
from dynamic_atss.assigners.dynamic_k import counts, first_of, sum_of_largest
from dynamic_atss.assigners.everywhere import (
    beside,
    best_priors,
    every_pair,
    listed,
    marked,
    overlapping,
    put,
    taken_by_several,
    those,
)
from dynamic_atss.assigners.nearest import is_near, near_center
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

LAST = 1e6  # cost of a prior that comes last, as released


class SimOTA:
    """A box takes the cheapest priors within `radius` strides of its centre, on every level: as
    many as its `topk` largest IoUs with all candidates of the image add up to; these are the priors
    near any box's centre. Where it lacks priors of its own, it goes on with those of others. Cost =
    binary cross-entropy of the classes + iou_weight * -log IoU. A prior that several boxes take
    goes to the box of the image that it costs least, be it one that has not taken it.

    Quality = predicted IoU, which is also the class target, as released. The release is YOLOX since
    January 2023. Until then its radius was 2.5, points inside any box were candidates, too, and
    those that are not both inside the box and near its centre came last; mmdetection does so still.
    There is no objectness in the class score here.

    Args:
        radius: of the centre region in strides.
        topk: IoUs that are added up.
        iou_weight: of the IoU's part of the cost.
        candidates: "image": as released: every box looks at the priors near any box of its image,
            some boxes at a time. "box": a box knows only those near its own centre, also for the
            sum and for conflicts, and those outside of it come last; this is work per pair.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = True
    quality_name = "IoU"
    needs_size = False

    def __init__(
        self,
        radius: float = 1.5,
        topk: int = 10,
        iou_weight: float = 3.0,
        candidates: str = "image",
    ) -> None:
        whole(1, topk=topk)
        at_least(0.5, radius=radius)
        at_least(0, iou_weight=iou_weight)
        one_of(("image", "box"), candidates=candidates)
        self.radius = radius
        self.topk = topk
        self.iou_weight = iou_weight
        self.candidates = candidates

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        of_image = self.candidates == "image"
        # propose
        pairs = near_center(priors, gt, self.radius)
        ask = PairCost(predictions, gt, self.iou_weight, pairs.flat)
        if of_image:
            pairs, last, sums = self._with_others(priors, gt, pairs, ask)
        # score
        cost, overlap = ask(pairs)
        if not of_image:
            last = ~inside_of(box_sides(priors, gt, pairs), margin=0)
            sums = self._sum(overlap, pairs.exists)
        cost = cost.double() + LAST * last  # a float32 would lose the rest of the cost
        # select
        note(score="-cost")
        best, places = best_of_box(pairs, -cost, self.topk, len(gt))
        taken = first_of(best, counts(sums))
        selected = marked(places, taken, pairs.flat.numel()).view_as(pairs.flat)
        note(score="-cost", sum_of_IoUs=sums[:, None], within_sum_of_IoUs=selected)
        if of_image:
            selected = selected | taken_by_several(best.flat, taken, ask.count)[pairs.flat]
        # resolve
        return resolve(pairs, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _with_others(
        self, priors: Priors, gt: GroundTruth, near: Pairs, ask: PairCost
    ) -> tuple[Pairs, Tensor, Tensor]:
        """`near` and behind them each box's cheapest of the image's other candidates, (T, K); which
        of the K come last; the sums of IoUs (T,)."""
        candidate = marked(near.flat, near.exists, ask.count).view(-1, len(priors))
        own = near.flat.shape[1]
        others, sums = [], []
        candidates = listed(candidate, min(own * gt.most, len(priors)))
        for box, pairs, overlap in overlapping(priors, gt, ask.predictions, *candidates):
            sums.append(sum_of_largest(box, pairs, overlap, self.topk))
        lacking = near.exists.sum(1) < counts(torch.cat(sums))
        for pairs in every_pair(priors, gt, *candidates, those(lacking)):
            far = pairs.exists & ~is_near(priors, gt, pairs, self.radius)
            pairs = pairs._replace(exists=far)
            others.append(best_priors(pairs.box.squeeze(1), pairs, -ask(pairs)[0], self.topk)[0])
        nobody = (x.new_zeros(len(gt), self.topk) for x in near[1:])
        pairs = beside([near, put(Pairs(near.box, *nobody), beside(others, 0))], 1)
        place = torch.arange(pairs.flat.shape[1], device=near.flat.device)
        return pairs, place >= own, torch.cat(sums)

    def _sum(self, overlap: Tensor, exists: Tensor) -> Tensor:
        """(T,) of the largest of each box."""
        k = min(self.topk, overlap.shape[1])
        return overlap.where(exists, 0.0).topk(k, dim=1).values.sum(1)
