"""Defines task-aligned assignment, which selects positives by class score and predicted IoU.

Feng et al. (TOOD), ICCV 2021, arXiv 2108.07755; released as github.com/fcjian/TOOD.
"""

from __future__ import annotations

import math

import torch

from dynamic_atss.assigners import check
from dynamic_atss.assigners.alignment import largest_of_box, log_alignment, scaled_alignment
from dynamic_atss.assigners.all_priors import (
    best_priors,
    concatenated,
    every_prior,
    overlapping_pairs,
)
from dynamic_atss.assigners.base import (
    MARGIN,
    Pairs,
    best_of_box,
    box_sides,
    inside_of,
    note,
    predicted_iou,
    resolve,
    winning,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

EPS = 1e-7  # added to the largest t of a box, as released


class TaskAligned:
    """Assigns each box those of its `topk` points of the largest t that lie inside it.

    t = score^alpha * IoU^beta. If several boxes take a point, the one with the largest IoU wins.

    Quality = t / (largest t of the box's positives + 1e-7) * their largest IoU. It is also the
    class target. As in the release, points outside of the box are ranked, too, so a box may have
    fewer than `topk` positives, or none. This computes P x T numbers, some at a time. The release
    trains the first four epochs with ATSS. This rule does not.

    Args:
        topk: maximum number of positives of a box.
        alpha, beta: powers of the class score and of the IoU.
        candidates: "image": ranks all points of the image, as released. "box": ranks only those
            inside the box, which is work per pair, and adds nothing to the largest t. Then the
            best point of a box always has the largest IoU as quality.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = True
    quality_name = "alignment"
    needs_size = False

    def __init__(
        self,
        topk: int = 13,
        alpha: float = 1.0,
        beta: float = 6.0,
        candidates: str = "image",
    ) -> None:
        check.integer(1, topk=topk)
        check.at_least(0, alpha=alpha, beta=beta)
        check.one_of(("image", "box"), candidates=candidates)
        self.topk = topk
        self.alpha, self.beta = alpha, beta
        self.candidates = candidates

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        of_image = self.candidates == "image"
        # propose
        best = (self._of_image if of_image else self._of_box)(priors, gt, predictions)
        # score
        overlap = predicted_iou(predictions, gt, best, BoxConvention.EXACT)  # as released
        # In float64: a difference of logarithms loses the last digits of a float32.
        alignment = log_alignment(predictions, gt, best, overlap.double(), self.alpha, self.beta)
        # select
        inside = inside_of(box_sides(priors, gt, best), MARGIN)
        # resolve
        shape = predictions.boxes.shape[:2]
        note(score="predicted IoU", inside=inside, log_alignment=alignment)
        index = resolve(best, inside, overlap, overlap, shape).gt_index
        won = inside & winning(best, index)
        quality = scaled_alignment(won, alignment, overlap)
        if of_image:  # t / (largest t + EPS) in place of t / (largest t)
            quality = quality * (largest_of_box(won, alignment) - math.log(EPS)).sigmoid()
        note(score="predicted IoU")
        return resolve(best, won, overlap, quality.to(overlap.dtype), shape)

    def _of_image(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Pairs:
        """Gives the best points of the image for each box, (T, topk)."""
        parts, every = [], every_prior(predictions)
        for box, pairs, overlap in overlapping_pairs(priors, gt, predictions, *every):
            alignment = log_alignment(predictions, gt, pairs, overlap, self.alpha, self.beta)
            parts.append(best_priors(box, pairs, alignment, self.topk)[0])
        return concatenated(parts, 0)

    def _of_box(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Pairs:
        """Gives the best points inside each box, (T, topk)."""
        pairs = points_inside(priors, gt, margin=MARGIN)
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)
        alignment = log_alignment(predictions, gt, pairs, overlap, self.alpha, self.beta)
        counts = pairs.exists & (alignment > -torch.inf)
        note(score="log alignment")
        return best_of_box(pairs._replace(exists=counts), alignment, self.topk, len(gt))[0]
