"""SimOTA: gives each box its cheapest priors near the centre, as many as its IoUs add up to.

Ge et al. (YOLOX), arXiv 2107.08430; released as github.com/Megvii-BaseDetection/YOLOX.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import Pairs, best_of_box, box_sides, inside_of, note, resolve
from dynamic_atss.assigners.costs import PairCost
from dynamic_atss.assigners.everywhere import (
    best_priors,
    concatenated,
    every_pair,
    flag_places,
    in_several_pairs,
    list_flagged,
)
from dynamic_atss.assigners.nearest import is_near, near_center
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

LAST = 1e6  # additional cost of a prior that is far from the centre, as released


class SimOTA:
    """Each box takes its n cheapest candidates. n is the sum of its `topk` largest IoUs, but >= 1.

    Candidates are the priors within `radius` strides of the centre of any box of the image. A box
    takes those near its centre first. Cost = binary cross-entropy of the classes + iou_weight
    * -log IoU. If several boxes take a prior, it goes to the box of the image with the least cost,
    even to one that has not taken it.

    Quality = predicted IoU, which is also the class target, as released. The class score has no
    objectness.

    The release is YOLOX since January 2023. Before, and still in mmdetection, the radius was 2.5,
    points inside any box were also candidates, and those not both inside the box and near its
    centre came last.

    Args:
        radius: of the centre region in strides.
        topk: number of IoUs that are added up.
        iou_weight: of the IoU's term in the cost.
        candidates: "image": as released, with the priors near any box of the image, some boxes at
            a time. "box": only the priors near the box's centre, also for the sum and for
            conflicts. Those outside of the box come last. The work is per pair.

    Raises:
        ValueError: an argument has an invalid value.
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
        check.integer(1, topk=topk)
        check.at_least(0.5, radius=radius)
        check.at_least(0, iou_weight=iou_weight)
        check.one_of(("image", "box"), candidates=candidates)
        self.radius = radius
        self.topk = topk
        self.iou_weight = iou_weight
        self.candidates = candidates

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        of_image = self.candidates == "image"
        # propose
        pairs = near_center(priors, gt, self.radius)
        cost_of = PairCost(predictions, gt, self.iou_weight, pairs.flat)
        if of_image:
            pairs, last, sums = self._with_others(priors, gt, pairs, cost_of)
        # score
        cost, overlap = cost_of(pairs)
        if not of_image:
            last = ~inside_of(box_sides(priors, gt, pairs), margin=0)
            sums = self._sum(overlap, pairs.exists)
        cost = cost.double() + LAST * last  # a float32 would lose the digits of the cost
        # select
        note(score="-cost")
        best, places = best_of_box(pairs, -cost, self.topk, len(gt))
        taken = torch.arange(self.topk, device=places.device) < sums.long().clamp(min=1)[:, None]
        taken &= best.exists
        selected = flag_places(places, taken, pairs.flat.numel()).view_as(pairs.flat)
        note(score="-cost", sum_of_IoUs=sums[:, None], within_sum_of_IoUs=selected)
        if of_image:
            selected = selected | in_several_pairs(best.flat, taken, cost_of.count)[pairs.flat]
        # resolve
        return resolve(pairs, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _with_others(
        self, priors: Priors, gt: GroundTruth, near: Pairs, cost_of: PairCost
    ) -> tuple[Pairs, Tensor, Tensor]:
        """Appends the cheapest of the image's other candidates to the pairs of each box.

        Returns:
            the pairs (T, K), which of the K come last (K,), and the sums of IoUs (T,).
        """
        candidate = flag_places(near.flat, near.exists, cost_of.count).view(-1, len(priors))
        near_count = near.flat.shape[1]
        others, sums = [], []
        for pairs in every_pair(
            priors, gt, *list_flagged(candidate, min(near_count * gt.max_boxes, len(priors)))
        ):
            cost, overlap = cost_of(pairs)
            sums.append(self._sum(overlap, pairs.exists))
            far = pairs.exists & ~is_near(priors, gt, pairs, self.radius)
            others.append(best_priors(pairs._replace(exists=far), -cost, self.topk))
        pairs = concatenated([near, concatenated(others, 0)], 1)
        place = torch.arange(pairs.flat.shape[1], device=near.flat.device)
        return pairs, place >= near_count, torch.cat(sums)

    def _sum(self, overlap: Tensor, exists: Tensor) -> Tensor:
        """Sums the largest IoUs of each box, (T,)."""
        k = min(self.topk, overlap.shape[1])
        return overlap.where(exists, 0.0).topk(k, dim=1).values.sum(1)
