"""o2f: one positive a box and a few ambiguous priors, whose labels fall during the training.

Li et al. (One-to-Few), CVPR 2023, arXiv 2303.11567; released as github.com/strongwolf/o2f.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.base import (
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


class O2F:
    """A box takes its `topk` candidates of the largest score^(1 - power) * IoU^power; a prior goes
    to the box for which that is largest. Of those that a box wins, the best has the label 1; each
    other the share of its class score in the largest score of these others, times a factor that
    falls from labels[0] to labels[1] during the training, and the weight `soft_weight`.

    Candidates lie inside the box, within `radius` strides of its centre. Quality = the label, which
    is the class target. With MODEL.CLASS_LOSS "soft_focal" the class loss is the release's. The box
    loss weighs by quality and weight; the release weighs it by centerness. The release's factor
    falls from epoch to epoch, here from iteration to iteration. Its score is the product of class
    score and centerness; there is none of the latter here.

    The aim is a detector without NMS.

    Args:
        topk: candidates that a box takes at most.
        power: of the IoU.
        radius: of the centre region in strides.
        labels: the factor at the first and at the last iteration.
        soft_weight: of all but the best.
        iterations: of the whole training (SOLVER.MAX_ITER unless MODEL.ASSIGNER.ARGS has it); the
            factor stays afterwards.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = True
    quality_name = "label"
    needs_size = False

    def __init__(
        self,
        topk: int = 7,
        power: float = 0.8,
        radius: float = 1.5,
        labels: Sequence[float] = (0.6, 0.2),
        soft_weight: float = 0.4,
        iterations: int = 90000,
    ) -> None:
        whole(1, topk=topk, iterations=iterations)
        at_least(0, power=power, soft_weight=soft_weight)
        at_least(0.5, radius=radius)
        if len(labels) != 2 or any(not 0 <= x <= 1 for x in labels):
            raise ValueError(f"labels is {labels!r}; give two numbers from 0 to 1")
        if power > 1:
            raise ValueError(f"power is {power!r}; it must be at most 1")
        self.topk = topk
        self.power = power
        self.radius = radius
        self.labels = tuple(labels)
        self.soft_weight = soft_weight
        self.iterations = iterations

    def factor(self, iteration: int) -> float:
        """Of the labels of all but the best, at a 0-based iteration."""
        first, last = self.labels
        return first + (last - first) * min(iteration / max(self.iterations - 1, 1), 1.0)

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt, radius=self.radius)
        # score
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as the release
        logit = logit_of_class(predictions, gt, pairs).to(overlap.dtype)
        score = logit.sigmoid() ** (1 - self.power) * overlap**self.power
        # select
        note(score="score and IoU")
        candidates = pairs._replace(exists=pairs.exists & (score > 0))
        best, places = best_of_box(candidates, score, self.topk, len(gt))
        score, logit = (x.index_select(0, places.flatten()).view_as(places) for x in (score, logit))
        # resolve
        shape = predictions.boxes.shape[:2]
        note(score="score and IoU")
        index = resolve(best, best.exists, score, score, shape).gt_index
        won = best.exists & (index.take(best.flat) == best.box)
        first = won & (won.cumsum(1) == 1)  # the best stand first
        label = _labels(won & ~first, logit, self.factor(predictions.iteration))
        label, weight = label.where(~first, 1.0), torch.where(first, 1.0, self.soft_weight)
        note(score="score and IoU", label=label, weight=weight)
        found = resolve(best, won, score, label, shape)
        weight = resolve(best, won, score, weight.to(label.dtype), shape).quality
        return Assignment(found.gt_index, found.quality, weight)


def _labels(others: Tensor, logit: Tensor, factor: float) -> Tensor:
    """(T, K): the share of each class score in the largest of the box's `others`, times factor; 0
    of those that are none of them."""
    score = F.logsigmoid(logit).where(others, -torch.inf)
    most = score.amax(1, keepdim=True).clamp(min=torch.finfo(score.dtype).min)
    return factor * (score - most).exp()
