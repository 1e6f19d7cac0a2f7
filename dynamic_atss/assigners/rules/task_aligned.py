"""Task-aligned assignment: positives by class score and predicted IoU together.

Feng et al. (TOOD), ICCV 2021, arXiv 2108.07755; released as github.com/fcjian/TOOD.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.base import (
    MARGIN,
    Pairs,
    at_least,
    best_of_box,
    box_sides,
    inside_of,
    logit_of_class,
    note,
    one_of,
    predicted_iou,
    resolve,
    whole,
)
from dynamic_atss.assigners.everywhere import beside, best_priors, every_prior, overlapping
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

TINY = 1e-30  # logarithms of 0 are slow, and of pairs that do not count
EPS = 1e-7  # added to the largest t of a box, as released


class TaskAligned:
    """A box looks at the `topk` points of the largest t = score^alpha * IoU^beta and takes those of
    them that lie inside it; of several boxes the one of the largest IoU wins.

    Quality = t / (largest t of the box's positives + 1e-7) * the largest IoU of them; it is also
    the class target. As in the release, points outside of the box take part in the ranking, and
    so take places: a box may have fewer than `topk` positives, or none. That is P x T numbers,
    some at a time. The release trains the first four epochs with ATSS; this rule does not.

    Args:
        topk: positives of a box at most.
        alpha, beta: powers of the class score and of the IoU.
        candidates: "image": all points of the image are ranked, as released. "box": only those
            inside the box, which is work per pair, and nothing is added to the largest t, so that
            the best of a box always has its largest IoU as quality.

    Raises:
        ValueError: for a value that is not accepted.
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
        whole(1, topk=topk)
        at_least(0, alpha=alpha, beta=beta)
        one_of(("image", "box"), candidates=candidates)
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
        """(T, topk): the best of all points."""
        parts = []
        for box, pairs, overlap in overlapping(priors, gt, predictions, *every_prior(predictions)):
            alignment = self._alignment(predictions, gt, pairs, overlap)
            parts.append(best_priors(box, pairs, alignment, self.topk)[0])
        return beside(parts, 0)

    def _of_box(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Pairs:
        """(T, topk): the best of the points inside the box."""
        pairs = points_inside(priors, gt, margin=MARGIN)
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)
        alignment = self._alignment(predictions, gt, pairs, overlap)
        counts = pairs.exists & (alignment > -torch.inf)
        note(score="log alignment")
        return best_of_box(pairs._replace(exists=counts), alignment, self.topk, len(gt))[0]

    def _alignment(
        self, predictions: Predictions, gt: GroundTruth, pairs: Pairs, overlap: Tensor
    ) -> Tensor:
        """log t, since a small score times a small IoU^6 would be 0; -inf where the IoU is."""
        score = F.logsigmoid(logit_of_class(predictions, gt, pairs).to(overlap.dtype))
        found = overlap.clamp(min=TINY).log().mul_(self.beta).add_(score, alpha=self.alpha)
        return found.where(overlap > 0, -torch.inf)


def _largest(won: Tensor, values: Tensor) -> Tensor:
    """(T, 1) the largest value among the `won` pairs of each box."""
    return torch.where(won, values, -torch.inf).amax(1, keepdim=True)
