"""Matches predictions with their targets."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.assigners import Assigner
from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.modeling.coder import decode
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors, rows


class Matched(NamedTuple):
    """Holds predictions with their targets.

    Attributes:
        target: the rule's answer.
        positive: (N, P) bool.
        quality: (N, P) of positives, otherwise 0, without gradient.
        weight: (N, P) `target.weight` of positives, otherwise 0, with gradient. Or None.
        raw: (N, P, R) the head's deltas of positives, otherwise 0.
        boxes: (N, P, 4) the predicted boxes of positives, otherwise equal to `targets`.
        targets: (N, P, 4) the true boxes.
    """

    target: Assignment
    positive: Tensor
    quality: Tensor
    weight: Tensor | None
    raw: Tensor
    boxes: Tensor
    targets: Tensor

    def weighted(self, values: Tensor) -> Tensor:
        """Multiplies values (N, P) by the rule's weights."""
        return values if self.weight is None else values * self.weight


def match(
    assigner: Assigner,
    coder: Any,
    output: HeadOutput,
    priors: Priors,
    gt: GroundTruth,
    iteration: int,
) -> Matched:
    """Calls the rule and matches every prior's prediction with its target."""
    boxes = decode(coder, output.deltas, priors.boxes)
    target = assign(assigner, output, boxes, priors, gt, iteration)
    positive, quality, weight = target.positive, target.quality.detach(), target.weight
    if weight is not None:
        quality, weight = (torch.where(positive, x, 0.0) for x in (quality, weight))
    targets = rows(gt.boxes, target.gt_index)
    # torch.where stops the values of other priors, also NaN.
    raw = torch.where(positive[..., None], output.deltas, 0.0)
    boxes = torch.where(positive[..., None], boxes, targets)
    return Matched(target, positive, quality, weight, raw, boxes, targets)


def assign(
    assigner: Assigner,
    output: HeadOutput,
    boxes: Tensor,
    priors: Priors,
    gt: GroundTruth,
    iteration: int,
) -> Assignment:
    """Calls the rule with the network's predictions, without their gradient.

    Raises:
        UserError: the answer has a wrong type or shape.
    """
    quality = None if output.quality is None else output.quality.detach()
    extras = {name: x.detach() for name, x in output.extras.items()}
    seen = Predictions(boxes.detach(), output.logits.detach(), iteration, quality, extras)
    return call_rule(assigner, priors, gt, seen)
