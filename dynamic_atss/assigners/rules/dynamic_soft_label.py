"""RTMDet's dynamic soft labels: SimOTA with the IoU in its class cost, and a soft centre prior.

Lyu et al. (RTMDet), arXiv 2212.07784; released in mmdetection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Pairs, at_least, best_of_box, note, one_of, resolve, whole
from dynamic_atss.assigners.costs import SoftLabelCost
from dynamic_atss.assigners.everywhere import (
    beside,
    best_priors,
    every_pair,
    listed,
    marked,
    taken_by_several,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX, RESOLVE
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Predictions, Priors


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
            best, sums, cheapest = self._of_image(priors, gt, pairs, ask)
            pairs, selected = _with_cheapest(best, _counted(best, sums), cheapest)
        else:
            pairs, sums = self._of_box(gt, pairs, ask)
            selected = _counted(pairs, sums)
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
    ) -> tuple[Pairs, Tensor, Tensor]:
        """The cheapest candidates of each box (T, topk), its sum of IoUs (T,), and the box (N, P)
        that each prior costs least, or BACKGROUND."""
        shape, most = ask.predictions.boxes.shape[:2], len(priors)
        candidate = marked(inside.flat, inside.exists, shape.numel()).view(shape)
        if not torch.compiler.is_compiling():  # the compiler does not know the list's length
            most = min(most, inside.flat.numel())
        parts, sums = [], []
        index = torch.full(shape, BACKGROUND, device=inside.flat.device)
        least = torch.full(shape, -torch.inf, device=index.device, dtype=torch.float64)
        for pairs in every_pair(priors, gt, *listed(candidate, most)):
            cost, overlap = ask(pairs)
            largest = overlap.where(pairs.exists, 0.0).topk(min(self.topk, most), dim=1).values
            sums.append(largest.sum(1))
            parts.append(best_priors(pairs, -cost, self.topk))
            box, _, flat, exists = pairs
            found, score = RESOLVE(box, flat, exists, exists, -cost, -cost, *shape)
            better = (found >= 0) & (score > least)
            index, least = found.where(better, index), score.where(better, least)
        return beside(parts, 0), torch.cat(sums), index


def _counted(best: Pairs, sums: Tensor) -> Tensor:
    """Bool, of the shape of best.flat: as many of each box as its sum (T,) says, rounded down."""
    rank = torch.arange(best.flat.shape[1], device=sums.device)
    return best.exists & (rank < sums.long().clamp(min=1)[:, None])


def _with_cheapest(best: Pairs, selected: Tensor, cheapest: Tensor) -> tuple[Pairs, Tensor]:
    """All pairs in one list, and behind them, of each prior that more than one of the `selected`
    takes, that with the box that it costs least; and which count."""
    number = torch.arange(cheapest.numel(), device=cheapest.device)
    several = taken_by_several(best.flat, selected, len(number))
    box = cheapest.flatten()
    more = Pairs(box.clamp(min=0), number % cheapest.shape[1], number, several & (box >= 0))
    both = zip(best._replace(box=best.box.expand_as(best.flat)), more, strict=True)
    pairs = Pairs(*(torch.cat((x.flatten(), y)) for x, y in both))
    return pairs, torch.cat((selected.flatten(), more.exists))
