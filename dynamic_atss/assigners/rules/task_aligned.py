"""Task-aligned assignment: selects positives by class score and predicted IoU.

Feng et al. (TOOD), ICCV 2021, arXiv 2108.07755; released as github.com/fcjian/TOOD.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    MARGIN,
    Pairs,
    best_of_box,
    box_sides,
    inside_of,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
)
from dynamic_atss.assigners.everywhere import (
    best_priors,
    concatenated,
    every_prior,
    overlapping_pairs,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

TINY = 1e-30  # avoids logarithms of 0, which are slow; such pairs do not count
EPS = 1e-7  # added to the largest t of a box, as released


class TaskAligned:
    """Each box takes those of its `topk` points of the largest t that lie inside it.

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
        alignment = self._alignment(predictions, gt, best, overlap)
        # select
        inside = inside_of(box_sides(priors, gt, best), MARGIN)
        # resolve
        shape = predictions.boxes.shape[:2]
        note(score="predicted IoU", inside=inside, log_alignment=alignment)
        index = resolve(best, inside, overlap, overlap, shape).gt_index
        won = best.exists & inside & (index.take(best.flat) == best.box)
        most = _largest(won, alignment)
        scaled = (alignment - most).exp()
        if of_image:
            scaled = scaled * (most - math.log(EPS)).sigmoid()  # = t / (largest t + EPS)
        note(score="predicted IoU")
        return resolve(best, won, overlap, scaled * _largest(won, overlap), shape)

    def _of_image(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Pairs:
        """Gives the best points of the image for each box, (T, topk)."""
        parts, every = [], every_prior(predictions)
        for box, pairs, overlap in overlapping_pairs(priors, gt, predictions, *every):
            alignment = self._alignment(predictions, gt, pairs, overlap)
            parts.append(best_priors(box, pairs, alignment, self.topk)[0])
        return concatenated(parts, 0)

    def _of_box(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Pairs:
        """Gives the best points inside each box, (T, topk)."""
        pairs = points_inside(priors, gt, margin=MARGIN)
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)
        alignment = self._alignment(predictions, gt, pairs, overlap)
        counts = pairs.exists & (alignment > -torch.inf)
        note(score="log alignment")
        return best_of_box(pairs._replace(exists=counts), alignment, self.topk, len(gt))[0]

    def _alignment(
        self, predictions: Predictions, gt: GroundTruth, pairs: Pairs, overlap: Tensor
    ) -> Tensor:
        """Gives log t, -inf for an IoU of 0. A small score times a small IoU^6 would round to 0."""
        score = F.logsigmoid(logit_of_class(predictions, gt, pairs).to(overlap.dtype))
        found = overlap.clamp(min=TINY).log().mul_(self.beta).add_(score, alpha=self.alpha)
        return found.where(overlap > 0, -torch.inf)


def _largest(won: Tensor, values: Tensor) -> Tensor:
    """Gives the largest value among the `won` pairs of each box, (T, 1)."""
    return torch.where(won, values, -torch.inf).amax(1, keepdim=True)
