"""Task-aligned assignment: positives by class score and predicted IoU together.

Feng et al. (TOOD), ICCV 2021, arXiv 2108.07755.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.base import (
    MARGIN,
    at_least,
    best_of_box,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
    whole,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

TINY = 1e-30  # logarithms of 0 are slow, and of pairs that do not count


class TaskAligned:
    """A box takes the points inside it of the largest t = score^alpha * IoU^beta; of several boxes
    the one of the largest IoU wins.

    Quality = t, scaled so that the best of a box has the largest IoU of its positives; it is also
    the class target. The release takes the best of all points and drops those outside the box
    afterwards, and trains the first epochs with ATSS; here all that count are inside, always.

    Args:
        topk: positives of a box at most.
        alpha, beta: powers of the class score and of the IoU.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = True
    quality_name = "alignment"
    needs_size = False

    def __init__(self, topk: int = 13, alpha: float = 1.0, beta: float = 6.0) -> None:
        whole(1, topk=topk)
        at_least(0, alpha=alpha, beta=beta)
        self.topk = topk
        self.alpha, self.beta = alpha, beta

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt, margin=MARGIN)
        # score, by its logarithm: a small score times a small IoU^6 would be 0
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as the release
        alignment = self._alignment(overlap, logit_of_class(predictions, gt, pairs))
        counts = pairs.exists & (overlap > 0) & (alignment > -torch.inf)
        # select
        note(score="log alignment")
        best, places = best_of_box(pairs._replace(exists=counts), alignment, self.topk, len(gt))
        alignment, overlap = (  # `take` would not compile: the list's length is unknown then
            x.index_select(0, places.flatten()).view_as(places) for x in (alignment, overlap)
        )
        # resolve
        shape = predictions.boxes.shape[:2]
        note(score="predicted IoU")
        index = resolve(best, best.exists, overlap, overlap, shape).gt_index
        won = best.exists & (index.take(best.flat) == best.box)
        scaled = (alignment - _largest(won, alignment)).exp()
        note(score="predicted IoU")
        return resolve(best, won, overlap, scaled * _largest(won, overlap), shape)

    def _alignment(self, overlap: Tensor, logit: Tensor) -> Tensor:
        """(M,) log t."""
        score = F.logsigmoid(logit.to(overlap.dtype))
        return overlap.clamp(min=TINY).log().mul_(self.beta).add_(score, alpha=self.alpha)


def _largest(won: Tensor, values: Tensor) -> Tensor:
    """(T, 1) the largest value among the `won` pairs of each box."""
    return torch.where(won, values, -torch.inf).amax(1, keepdim=True)
