"""Computes the class loss."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import Assigner
from dynamic_atss.losses import (
    quality_focal_loss,
    sigmoid_focal_loss,
    varifocal_loss,
    weighted_focal_loss,
)
from dynamic_atss.types import Assignment, GroundTruth, rows

CLASS_LOSSES = ("focal", "quality_focal", "varifocal", "soft_focal")


class ClassLoss:
    """Sums a focal loss over priors and classes.

    Args:
        kind: one of CLASS_LOSSES. "focal" has targets 0 and 1, the others have soft targets.
        alpha: weight of positives in "focal".
        gamma: exponent.
    """

    def __init__(self, kind: str, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.kind, self.alpha, self.gamma = kind, alpha, gamma

    def __call__(
        self,
        logits: Tensor,
        target: Assignment,
        gt: GroundTruth,
        label: Tensor,
        divisor: Tensor,
        background_divisor: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss.

        Args:
            logits: (N, P, C).
            label: (N, P) in [0, 1], used for positives.
            divisor: scalar that divides the sum.
            background_divisor: scalar that divides the background terms; None: `divisor`.
        """
        index = target.gt_index
        classes = torch.where(index >= 0, rows(gt.classes, index), index).flatten()
        logits, label = logits.flatten(0, 1), label.flatten()
        weighs = target.weight is not None or target.negative is not None
        if weighs or background_divisor is not None or self.kind == "soft_focal":
            ratio = None if background_divisor is None else divisor / background_divisor
            return self._weighted(logits, classes, label, target, ratio) / divisor
        if self.kind == "focal":
            return sigmoid_focal_loss(logits, classes, self.alpha, self.gamma, divisor)
        loss = quality_focal_loss if self.kind == "quality_focal" else varifocal_loss
        return loss(logits, classes, label, gamma=self.gamma, divisor=divisor)

    def _weighted(
        self,
        logits: Tensor,
        classes: Tensor,
        label: Tensor,
        target: Assignment,
        background: Tensor | None,
    ) -> Tensor:
        weight, negative = (
            None if x is None else x.flatten() for x in (target.weight, target.negative)
        )
        return weighted_focal_loss(
            logits, classes, label, weight, negative, self.kind, self.alpha, self.gamma, background
        )


def default_class_loss(
    assigner: Assigner, kind: str = "", alpha: float = 0.25, gamma: float = 2.0
) -> ClassLoss:
    """Gives the class loss of `kind`. "": quality focal if the rule has soft labels, else focal."""
    return ClassLoss(kind or ("quality_focal" if assigner.soft_labels else "focal"), alpha, gamma)
