"""At least one positive for every box, around any rule.

Small-target-aware assignment, after YOLO26's STAL and Guan et al. (RFAssigner), arXiv 2601.01240.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dynamic_atss.assigners.answer import answer
from dynamic_atss.assigners.around import Around
from dynamic_atss.assigners.base import (
    Assigner,
    Pairs,
    anchor_iou,
    at_least,
    note,
    predicted_iou,
    resolve,
    whole,
)
from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class AtLeastOne(Around):
    """After `rule`, a box without a positive takes its best candidate.

    Candidates are the `topk` locations of each level nearest to the box's centre, of them the
    priors that are not positive; the best has the largest IoU with the box, as an anchor or, for
    points, as a square of 8 strides around it, and of equal ones is the nearest. Of several boxes
    that want one prior the largest IoU wins, then the lower index; the others try their next in the
    next of `rounds` rounds. What they end without stays without (a crowd on one spot), as does a
    box that overlaps no candidate (outside of the image).

    Quality = IoU of the predicted box, but at least `quality`: it weighs the box loss and, with
    soft labels, is the class target, so that the box would not be learnt with an IoU of 0, which is
    how predictions of tiny boxes begin; from 0.5 on a detection counts as found in AP50.

    Args:
        rule: any assigner.
        topk: candidate locations of a box on each level.
        rounds: tries of each box.
        quality: the least.
    """

    def __init__(
        self, rule: Assigner, topk: int = 9, rounds: int = 4, quality: float = 0.5
    ) -> None:
        super().__init__(rule)
        whole(1, topk=topk, rounds=rounds)
        at_least(0, quality=quality)
        self.topk = topk
        self.rounds = rounds
        self.quality = quality

    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        found = answer(self.rule, priors, gt, predictions)
        completed = self._completed(found, priors, gt, predictions)
        return _with_weights(completed, found, completed.positive & ~found.positive)

    @torch.no_grad()
    def _completed(
        self, found: Assignment, priors: Priors, gt: GroundTruth, predictions: Predictions
    ) -> Assignment:
        # propose
        pairs = nearest_candidates(priors, gt, self.topk)
        # score
        overlap = anchor_iou(priors.with_size(), gt, pairs)
        quality = predicted_iou(predictions, gt, pairs).clamp(min=self.quality)
        # select and resolve
        for _ in range(self.rounds):
            wanted = _wanted(pairs, overlap, found)
            note(score="anchor IoU")
            taken = resolve(pairs, wanted, overlap, quality, found.gt_index.shape)
            found = _with(taken, found)
        return found


def _with(taken: Assignment, found: Assignment) -> Assignment:
    """`found`, and the positives of `taken`."""
    new = taken.positive
    completed = replace(
        found,
        gt_index=torch.where(new, taken.gt_index, found.gt_index),
        quality=torch.where(new, taken.quality, found.quality),
    )
    return _with_weights(completed, found, new)


def _with_weights(completed: Assignment, found: Assignment, new: Tensor) -> Assignment:
    """The weights that the rule found; of `new` (N, P) positives 1, and 0 as background."""
    weight, negative = found.weight, found.negative
    return replace(
        completed,
        weight=None if weight is None else torch.where(new, 1.0, weight),
        negative=None if negative is None else torch.where(new, 0.0, negative),
    )


def _wanted(pairs: Pairs, overlap: Tensor, found: Assignment) -> Tensor:
    """(T, K) bool: the best free candidate of each box that has no positive yet."""
    learnt = found.learnt(len(overlap))
    overlap = torch.where(found.positive.flatten()[pairs.flat], 0.0, overlap)
    best = torch.zeros_like(pairs.exists).scatter_(1, overlap.argmax(1, keepdim=True), True)
    return best & (overlap > 0) & ~learnt[:, None]
