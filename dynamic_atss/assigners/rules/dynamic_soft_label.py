"""RTMDet's dynamic soft labels: SimOTA with the IoU in its class cost, and a soft centre prior.

Lyu et al. (RTMDet), arXiv 2212.07784; released in mmdetection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Pairs, at_least, best_of_box, note, one_of, resolve, whole
from dynamic_atss.assigners.costs import SoftLabelCost
from dynamic_atss.assigners.dynamic_k import counts, first_of, shared, sum_of_largest
from dynamic_atss.assigners.everywhere import (
    beside,
    best_priors,
    every_pair,
    listed,
    marked,
    overlapping,
    put,
    seen,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

COST_OF_NONE = 16.0  # an IoU of 0 costs iou_weight * 16.1 at least


class DynamicSoftLabel:
    """A box takes as many of the cheapest candidates as its `topk` largest IoUs add up to, at least
    one. Candidates are the priors inside any box of the image; cost = quality focal loss with the
    predicted IoU as the soft label + iou_weight * -log IoU + 10^(distance from the centre in
    strides - radius). A prior that several boxes take goes to the box of the image that it costs
    least, be it one that has not taken it.

    Quality = predicted IoU, which is also the class target, as released.

    Args:
        radius: of the soft centre prior in strides; beyond it the cost of the distance exceeds 1.
        topk: IoUs that are added up.
        iou_weight: of the IoU's part of the cost.
        candidates: "image": as released, which is P x T numbers, some at a time. "box": a box knows
            only the priors inside it, also for the sum and for conflicts; this is work per pair.

    Raises:
        ValueError: for a value that is not accepted.
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
        whole(1, topk=topk)
        at_least(0, radius=radius, iou_weight=iou_weight)
        one_of(("image", "box"), candidates=candidates)
        self.radius = radius
        self.topk = topk
        self.iou_weight = iou_weight
        self.candidates = candidates

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt)
        # score and select
        ask = SoftLabelCost(priors, gt, predictions, self.iou_weight, self.radius, pairs.flat)
        if self.candidates == "image" and len(gt):
            pairs, selected = self._of_image(priors, gt, pairs, ask)
        else:
            pairs, sums = self._of_box(gt, pairs, ask)
            selected = first_of(pairs, counts(sums))
        # resolve
        cost, overlap = ask(pairs)
        note(score="-cost", within_sum_of_IoUs=selected)
        return resolve(pairs, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _of_box(self, gt: GroundTruth, pairs: Pairs, ask: SoftLabelCost) -> tuple[Pairs, Tensor]:
        """The cheapest priors inside each box (T, topk), and its sum of IoUs (T,)."""
        cost, overlap = ask(pairs)
        places, _, _, exists = BEST_OF_BOX(*pairs, overlap, self.topk, len(gt))
        largest = overlap.index_select(0, places.flatten()).view_as(places)
        note(score="-cost")
        best, _ = best_of_box(pairs, -cost, self.topk, len(gt))
        return best, largest.where(exists, 0.0).sum(1)

    def _of_image(
        self, priors: Priors, gt: GroundTruth, inside: Pairs, ask: SoftLabelCost
    ) -> tuple[Pairs, Tensor]:
        """All pairs that may win a prior, in one list, and which of them count."""
        shape, most = ask.predictions.boxes.shape[:2], len(priors)
        if not torch.compiler.is_compiling():  # the compiler does not know the list's length
            most = min(most, inside.flat.numel())
        candidates = listed(marked(inside.flat, inside.exists, shape.numel()).view(shape), most)
        parts, costs, sums = [], [], []
        for box, pairs, overlap in overlapping(priors, gt, ask.predictions, *candidates):
            best, score = best_priors(box, pairs, -ask(pairs)[0], self.topk)
            parts.append(best)
            costs.append(-score)
            sums.append(sum_of_largest(box, pairs, overlap, self.topk))
        best, count = beside(parts, 0), counts(torch.cat(sums))
        if seen(count):  # elsewhere these are the cheapest of all
            known = first_of(best, count) & (torch.cat(costs) < self.iou_weight * COST_OF_NONE)
            again = (known.sum(1) < count).nonzero().squeeze(1)
            for pairs in every_pair(priors, gt, *candidates, again):
                box = pairs.box.squeeze(1)
                best = put(best, best_priors(box, pairs, -ask(pairs)[0], self.topk)[0])
        taken = first_of(best, count)
        more = shared(priors, gt, ask, best, taken, shape)
        both = zip(best._replace(box=best.box.expand_as(best.flat)), more, strict=True)
        pairs = Pairs(*(torch.cat((x.flatten(), y)) for x, y in both))
        return pairs, torch.cat((taken.flatten(), more.exists))
