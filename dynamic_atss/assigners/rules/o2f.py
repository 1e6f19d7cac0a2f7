"""Defines o2f, which gives a box one positive and a few ambiguous priors.

The labels of the ambiguous priors fall during training.

Li et al. (One-to-Few), CVPR 2023, arXiv 2303.11567; released as github.com/strongwolf/o2f.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    best_of_box,
    logit_of_class,
    note,
    predicted_iou,
    resolve,
    take,
    winning,
)
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class O2F:
    """Assigns each box the `topk` candidates of the largest score^(1 - power) * IoU^power.

    A prior goes to the box for which this value is largest. The aim is a detector without NMS.

    The best prior of a box has label 1. Each other prior has the label factor * class score /
    (largest class score of these others), and the weight `soft_weight`. The factor falls from
    labels[0] to labels[1] during the training. Candidates lie inside the box and within `radius`
    strides of its centre. Quality = the label, which is the class target. Use MODEL.CLASS_LOSS
    "soft_focal", the release's class loss.

    Differences from the release:
        The box loss is weighed by quality and weight. The release weighs it by centerness.
        The factor falls with each iteration. In the release it falls with each epoch.
        The score is the class score. In the release it is class score * centerness.

    Args:
        topk: maximum number of candidates of a box.
        power: of the IoU.
        radius: of the centre region in strides.
        labels: the factor at the first and at the last iteration.
        soft_weight: weight of all priors but the best.
        iterations: length of the training (default in a run: SOLVER.MAX_ITER). The factor is
            constant afterwards.

    Raises:
        ValueError: an argument has an invalid value.
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
        check.integer(1, topk=topk, iterations=iterations)
        check.at_least(0, power=power, soft_weight=soft_weight)
        check.at_least(0.5, radius=radius)
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
        """Gives the factor of the labels of all priors but the best, at a 0-based iteration."""
        first, last = self.labels
        return first + (last - first) * min(iteration / max(self.iterations - 1, 1), 1.0)

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = points_inside(priors, gt, radius=self.radius)
        # score
        overlap = predicted_iou(predictions, gt, pairs, BoxConvention.EXACT)  # as in the release
        logit = logit_of_class(predictions, gt, pairs).to(overlap.dtype)
        score = logit.sigmoid() ** (1 - self.power) * overlap**self.power
        # select
        note(score="score and IoU")
        candidates = pairs._replace(exists=pairs.exists & (score > 0))
        best, places = best_of_box(candidates, score, self.topk, len(gt))
        score, logit = take(score, places), take(logit, places)
        # resolve
        shape = predictions.boxes.shape[:2]
        note(score="score and IoU")
        index = resolve(best, best.exists, score, score, shape).gt_index
        won = winning(best, index)
        first = won & (won.cumsum(1) == 1)  # pairs are sorted, so the first is the best
        label = _labels(won & ~first, logit, self.factor(predictions.iteration))
        label, weight = label.where(~first, 1.0), torch.where(first, 1.0, self.soft_weight)
        note(score="score and IoU", label=label, weight=weight)
        found = resolve(best, won, score, label, shape)
        weight = resolve(best, won, score, weight.to(label.dtype), shape).quality
        return Assignment(found.gt_index, found.quality, weight)


def _labels(others: Tensor, logit: Tensor, factor: float) -> Tensor:
    """Gives factor * class score / (largest class score of the box's `others`), (T, K).

    It is 0 for pairs that are not among the `others`.
    """
    score = F.logsigmoid(logit).where(others, -torch.inf)
    most = score.amax(1, keepdim=True).clamp(min=torch.finfo(score.dtype).min)
    return factor * (score - most).exp()
