"""Gives every box at least one positive, after any rule.

Small-target-aware assignment, after YOLO26's STAL and Guan et al. (RFAssigner), arXiv 2601.01240.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import Assigner, Pairs, anchor_iou, note, predicted_iou, resolve
from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.assigners.wrapper import RuleWrapper
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class AtLeastOne(RuleWrapper):
    """Gives each box without a positive under `rule` its best candidate.

    Candidates are the priors at the `topk` locations of each level nearest to the box's centre
    that are not positive yet. The best candidate has the largest IoU of anchor and box. Of equal
    candidates it is the nearest. For points, the anchor is a square of 8 strides. If several boxes
    want the same prior, the one with the largest IoU wins, then the one with the lowest index. The
    others try their next candidate in the next of `rounds` rounds. A box stays without a positive
    if it gets none in all rounds or overlaps no candidate.

    Quality = IoU of the predicted box, but at least `quality`. It weighs the box loss and is the
    class target with soft labels. The first predictions of tiny boxes have an IoU of 0. With a
    quality of 0 the box would not be learnt. The default is the IoU at which AP50 counts a
    detection as right.

    Args:
        rule: any assigner.
        topk: candidate locations of a box on each level.
        rounds: number of tries of each box.
        quality: lower limit of the quality.
    """

    def __init__(
        self, rule: Assigner, topk: int = 9, rounds: int = 4, quality: float = 0.5
    ) -> None:
        super().__init__(rule)
        check.integer(1, topk=topk, rounds=rounds)
        check.at_least(0, quality=quality)
        self.topk = topk
        self.rounds = rounds
        self.quality = quality

    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        found = call_rule(self.rule, priors, gt, predictions)
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
    """Adds the positives of `taken` to `found`."""
    new = taken.positive
    completed = replace(
        found,
        gt_index=torch.where(new, taken.gt_index, found.gt_index),
        quality=torch.where(new, taken.quality, found.quality),
    )
    return _with_weights(completed, found, new)


def _with_weights(completed: Assignment, found: Assignment, new: Tensor) -> Assignment:
    """Copies the rule's weights. Sets weight 1 and negative weight 0 for the `new` (N, P)."""
    weight, negative = found.weight, found.negative
    return replace(
        completed,
        weight=None if weight is None else torch.where(new, 1.0, weight),
        negative=None if negative is None else torch.where(new, 0.0, negative),
    )


def _wanted(pairs: Pairs, overlap: Tensor, found: Assignment) -> Tensor:
    """Flags the best free candidate of each box that has no positive yet, (T, K)."""
    learnt = found.learnt(len(overlap))
    overlap = torch.where(found.positive.flatten()[pairs.flat], 0.0, overlap)
    best = torch.zeros_like(pairs.exists).scatter_(1, overlap.argmax(1, keepdim=True), True)
    return best & (overlap > 0) & ~learnt[:, None]
