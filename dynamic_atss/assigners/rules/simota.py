"""Defines SimOTA, which gives each box its cheapest priors near the centre.

Ge et al. (YOLOX), arXiv 2107.08430; released as github.com/Megvii-BaseDetection/YOLOX.
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
    in_several_pairs,
    list_flagged,
    overlapping_pairs,
    readable,
    replaced,
)
from dynamic_atss.assigners.base import (
    Pairs,
    best_of_box,
    box_sides,
    inside_of,
    note,
    resolve,
    take,
)
from dynamic_atss.assigners.costs import PairCost
from dynamic_atss.assigners.dynamic_k import flag_first, positives_per_box, sum_of_largest
from dynamic_atss.assigners.nearest import is_near, near_center
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

LAST = 1e6  # additional cost of a prior that is far from the centre, as released


class SimOTA:
    """Assigns each box its n cheapest candidates. n is the sum of its `topk` largest IoUs, >= 1.

    Candidates are the priors within `radius` strides of the centre of any box of the image. A box
    takes those near its centre first. Cost = binary cross-entropy of the classes + iou_weight *
    -log IoU. If several boxes take a prior, it goes to the box of the image with the least cost,
    even to one that has not taken it.
    Quality = predicted IoU, which is also the class target, as released since January 2023.
    docs/assigners.md describes the differences from earlier releases and mmdetection.

    Args:
        radius: of the centre region in strides.
        topk, iou_weight: the number of IoUs that are added up, and the weight of the IoU's cost.
        candidates: "image": as released, with the priors near any box of the image. "box": only
            the priors near the box's centre, also for the sum and for conflicts. Those outside of
            the box come last.

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
            sums = sum_of_largest(pairs.box.squeeze(1), pairs, overlap, self.topk)
        cost = cost.double() + LAST * last  # a float32 would lose the digits of the cost
        # select
        note(score="-cost")
        best, places = best_of_box(pairs, -cost, self.topk, len(gt))
        taken = flag_first(best, positives_per_box(sums))
        selected = flag_places(places, taken, cost.numel()).view_as(cost)
        note(score="-cost", sum_of_IoUs=sums[:, None], within_sum_of_IoUs=selected)
        if of_image:
            several = in_several_pairs(best.flat, taken, cost_of.count)
            selected = selected | take(several, pairs.flat)
        # resolve
        return resolve(pairs, selected, -cost, overlap, predictions.boxes.shape[:2])

    def _with_others(
        self, priors: Priors, gt: GroundTruth, near: Pairs, cost_of: PairCost
    ) -> tuple[Pairs, Tensor, Tensor]:
        """Appends the cheapest of the image's other candidates to the pairs of each box.

        Returns:
            the pairs (T, K), flags of the K that come last (K,), and the sums of IoUs (T,).
        """
        candidate = flag_places(near.flat, near.exists, cost_of.count).view(-1, len(priors))
        near_count = near.flat.shape[1]
        listed = list_flagged(candidate, min(near_count * gt.max_boxes, len(priors)))
        all_overlapping = overlapping_pairs(priors, gt, cost_of.predictions, *listed)
        sums = torch.cat([sum_of_largest(*part, self.topk) for part in all_overlapping])
        lacking = near.exists.sum(1) < positives_per_box(sums)
        box = lacking.nonzero().squeeze(1) if readable(lacking) else None  # None: all
        others = []
        for pairs in every_pair(priors, gt, *listed, box):
            far = pairs.exists & ~is_near(priors, gt, pairs, self.radius)
            pairs, cost = pairs._replace(exists=far), cost_of(pairs)[0]
            others.append(best_priors(pairs.box.squeeze(1), pairs, -cost, self.topk)[0])
        none = Pairs(near.box, *(x.new_zeros(len(gt), self.topk) for x in near[1:]))
        pairs = concatenated([near, replaced(none, concatenated(others, 0))], 1)
        place = torch.arange(pairs.flat.shape[1], device=near.flat.device)
        return pairs, place >= near_count, sums
