"""RTMDet's dynamic soft labels: SimOTA with the IoU in the class cost and a soft centre prior.

Lyu et al. (RTMDet), arXiv 2212.07784; released in mmdetection.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import Pairs, best_of_box, note, resolve
from dynamic_atss.assigners.costs import SoftLabelCost
from dynamic_atss.assigners.everywhere import (
    best_priors,
    concatenated,
    every_pair,
    flag_places,
    in_several_pairs,
    list_flagged,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX, RESOLVE
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Predictions, Priors


class DynamicSoftLabel:
    """Each box takes its n cheapest candidates. n is the sum of its `topk` largest IoUs, but >= 1.

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
            best, sums, cheapest = self._of_image(priors, gt, pairs, cost_of)
            pairs, selected = _with_cheapest(best, _counted(best, sums), cheapest)
        else:
            pairs, sums = self._of_box(gt, pairs, cost_of)
            selected = _counted(pairs, sums)
        # resolve
        cost, overlap = cost_of(pairs)
        note(score="-cost", within_sum_of_IoUs=selected)
        return resolve(pairs, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _of_box(
        self, gt: GroundTruth, pairs: Pairs, cost_of: SoftLabelCost
    ) -> tuple[Pairs, Tensor]:
        """Gives the cheapest priors inside each box (T, topk), and its sum of IoUs (T,)."""
        cost, overlap = cost_of(pairs)
        places, _, _, exists = BEST_OF_BOX(*pairs, overlap, self.topk, len(gt))
        largest = overlap.index_select(0, places.flatten()).view_as(places)
        note(score="-cost")
        best, _ = best_of_box(pairs, -cost, self.topk, len(gt))
        return best, largest.where(exists, 0.0).sum(1)

    def _of_image(
        self, priors: Priors, gt: GroundTruth, inside: Pairs, cost_of: SoftLabelCost
    ) -> tuple[Pairs, Tensor, Tensor]:
        """Gives the cheapest candidates of each box (T, topk), its sum of IoUs (T,), and the box
        with the least cost of each prior, or BACKGROUND (N, P)."""
        shape, most = cost_of.predictions.boxes.shape[:2], len(priors)
        candidate = flag_places(inside.flat, inside.exists, shape.numel()).view(shape)
        if not torch.compiler.is_compiling():  # torch.compile does not know the list's length
            most = min(most, inside.flat.numel())
        parts, sums = [], []
        index = torch.full(shape, BACKGROUND, device=inside.flat.device)
        least = torch.full(shape, -torch.inf, device=index.device, dtype=torch.float64)
        for pairs in every_pair(priors, gt, *list_flagged(candidate, most)):
            cost, overlap = cost_of(pairs)
            largest = overlap.where(pairs.exists, 0.0).topk(min(self.topk, most), dim=1).values
            sums.append(largest.sum(1))
            parts.append(best_priors(pairs, -cost, self.topk))
            box, _, flat, exists = pairs
            found, score = RESOLVE(box, flat, exists, exists, -cost, -cost, *shape)
            better = (found >= 0) & (score > least)
            index, least = found.where(better, index), score.where(better, least)
        return concatenated(parts, 0), torch.cat(sums), index


def _counted(best: Pairs, sums: Tensor) -> Tensor:
    """Flags the first pairs of each box, as many as its sum (T,) rounded down, at least 1."""
    rank = torch.arange(best.flat.shape[1], device=sums.device)
    return best.exists & (rank < sums.long().clamp(min=1)[:, None])


def _with_cheapest(best: Pairs, selected: Tensor, cheapest: Tensor) -> tuple[Pairs, Tensor]:
    """Appends the cheapest pair of each prior that occurs in several `selected` pairs. Gives all
    pairs in one list (M,), and which of them are selected (M,)."""
    number = torch.arange(cheapest.numel(), device=cheapest.device)
    several = in_several_pairs(best.flat, selected, len(number))
    box = cheapest.flatten()
    added = Pairs(box.clamp(min=0), number % cheapest.shape[1], number, several & (box >= 0))
    both = zip(best._replace(box=best.box.expand_as(best.flat)), added, strict=True)
    pairs = Pairs(*(torch.cat((x.flatten(), y)) for x, y in both))
    return pairs, torch.cat((selected.flatten(), added.exists))
