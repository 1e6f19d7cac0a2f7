"""From the head's output to the loss terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.assigners import Assigner
from dynamic_atss.boxes import iou
from dynamic_atss.losses import (
    giou_loss,
    quality_focal_loss,
    quality_loss,
    sigmoid_focal_loss,
    smooth_l1_loss,
    varifocal_loss,
)
from dynamic_atss.modeling.box_terms import GIoUTerm
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors, rows

CLASS_LOSSES = ("focal", "quality_focal", "varifocal")
LABELS = ("quality", "iou", "quality_x_iou")
EPS = torch.finfo(torch.float32).eps


class ClassLoss:
    """Sum over priors and classes of a focal loss.

    Args:
        kind: one of CLASS_LOSSES; the targets of "focal" are 0 and 1, of the others soft.
        alpha: weight of positives in "focal".
        gamma: exponent.
    """

    def __init__(self, kind: str, alpha: float = 0.25, gamma: float = 2.0) -> None:
        self.kind, self.alpha, self.gamma = kind, alpha, gamma

    def __call__(
        self, logits: Tensor, index: Tensor, gt: GroundTruth, label: Tensor, divisor: Tensor
    ) -> Tensor:
        """logits (N, P, C) · index (N, P) into gt · label (N, P) in [0, 1], of positives · divisor,
        a scalar, of the sum."""
        classes = torch.where(index >= 0, rows(gt.classes, index), index).flatten()
        logits = logits.flatten(0, 1)
        if self.kind == "focal":
            return sigmoid_focal_loss(logits, classes, self.alpha, self.gamma, divisor)
        loss = quality_focal_loss if self.kind == "quality_focal" else varifocal_loss
        return loss(logits, classes, label.flatten(), gamma=self.gamma, divisor=divisor)


class Criterion:
    """Class, box and quality loss of heads whose box loss compares boxes.

    Normalisers are means over the processes, from one collective per step whatever the data: the
    class and the quality loss are divided by the number of positives (at least 1), the box loss,
    weighted by the quality, by the sum of the qualities.

    Args:
        assigner: the rule.
        coder: decodes the deltas.
        average: mean of a tensor over the processes.
        class_loss: None: quality focal if the rule's labels are soft, else focal.
        box_loss: (boxes, targets, weight, strides), of shapes (N, P, 4), (N, P, 4), (N, P), (P,) ->
            sum.
        class_weight, box_weight: of the two terms.
        label: the soft class target of positives, one of LABELS; "iou": of the predicted box.
        divide_by_labels: the class loss is divided by the sum of the labels (at least 1).
        least_quality: lower bound of the box loss's divisor.
    """

    def __init__(
        self,
        assigner: Assigner,
        coder: Any,
        average: Callable[[Tensor], Tensor],
        *,
        class_loss: ClassLoss | None = None,
        box_loss: Callable[..., Tensor] | None = None,
        class_weight: float = 1.0,
        box_weight: float = 2.0,
        label: str = "quality",
        divide_by_labels: bool = False,
        least_quality: float = EPS,
    ) -> None:
        self.assigner = assigner
        self.coder = coder
        self.average = average
        self.class_loss = class_loss or default_class_loss(assigner)
        self.box_loss = box_loss or GIoUTerm()
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.label = label
        self.divide_by_labels = divide_by_labels
        self.least_quality = least_quality

    def __call__(
        self, output: HeadOutput, priors: Priors, gt: GroundTruth, iteration: int = 0
    ) -> dict[str, Tensor]:
        """The loss terms, scalars, by the names that the releases log."""
        boxes = self.coder.decode(output.deltas, priors.boxes)
        target = assign(self.assigner, output, boxes, priors, gt, iteration)
        positive, quality = target.positive, target.quality
        targets = rows(gt.boxes, target.gt_index)
        # Whatever the others' boxes are, not even NaN passes through where.
        boxes = torch.where(positive[..., None], boxes, targets)
        label = self._labels(boxes.detach(), targets, quality)

        sums = torch.stack((positive.sum().float(), quality.sum(), label.sum()))
        positives, qualities, labels = self.average(sums)
        positives = positives.clamp(min=1.0)
        # All of quality 0: loss 0, not inf.
        qualities = qualities.clamp(min=self.least_quality)
        divisor = labels.clamp(min=1.0) if self.divide_by_labels else positives

        class_loss = self.class_loss(
            output.logits, target.gt_index, gt, label, divisor / self.class_weight
        )
        box_loss = sum(self.box_loss(output.deltas, boxes, targets, quality, priors).values())
        losses = {
            "loss_cls": class_loss,
            "loss_reg": box_loss / qualities * self.box_weight,
        }
        if output.quality is not None:
            loss = quality_loss(output.quality, quality, positive)
            losses[f"loss_{self.assigner.quality_name}"] = loss / positives
        return losses

    def _labels(self, boxes: Tensor, targets: Tensor, quality: Tensor) -> Tensor:
        if self.label == "quality":
            return quality
        found = torch.where(quality > 0, iou(boxes, targets), 0.0)
        return found if self.label == "iou" else found * quality


class RetinaNetCriterion:
    """Class loss and smooth L1 of the deltas (Lin et al., ICCV 2017), as released.

    The class loss is divided by positives + images, the box loss by positives * `divisor`; both
    means over the processes, from one collective per step.
    """

    def __init__(
        self,
        assigner: Assigner,
        coder: Any,
        average: Callable[[Tensor], Tensor],
        *,
        class_loss: ClassLoss | None = None,
        beta: float = 0.11,
        divisor: float = 4.0,
    ) -> None:
        self.assigner = assigner
        self.coder = coder
        self.average = average
        self.class_loss = class_loss or default_class_loss(assigner)
        self.beta = beta
        self.divisor = divisor

    def __call__(
        self, output: HeadOutput, priors: Priors, gt: GroundTruth, iteration: int = 0
    ) -> dict[str, Tensor]:
        """The loss terms, scalars."""
        boxes = self.coder.decode(output.deltas.detach(), priors.boxes)
        target = assign(self.assigner, output, boxes, priors, gt, iteration)
        positive, priors_boxes = target.positive, priors.boxes.expand_as(output.deltas)
        # Background learns to encode its own prior, with weight 0: finite.
        gt_boxes = torch.where(positive[..., None], rows(gt.boxes, target.gt_index), priors_boxes)
        targets = self.coder.encode(gt_boxes, priors_boxes)
        positives = self.average(positive.sum().float()[None])[0]
        class_loss = self.class_loss(
            output.logits, target.gt_index, gt, target.quality, positives + len(positive)
        )
        box_loss = smooth_l1_loss(output.deltas, targets, positive.float(), self.beta)
        return {
            "loss_cls": class_loss,
            "loss_reg": box_loss / (positives * self.divisor).clamp(min=1.0),
        }


def default_class_loss(
    assigner: Assigner, kind: str = "", alpha: float = 0.25, gamma: float = 2.0
) -> ClassLoss:
    """Of `kind`, or of the kind that the rule's labels ask for."""
    return ClassLoss(kind or ("quality_focal" if assigner.soft_labels else "focal"), alpha, gamma)


def assign(
    assigner: Assigner,
    output: HeadOutput,
    boxes: Tensor,
    priors: Priors,
    gt: GroundTruth,
    iteration: int,
) -> Assignment:
    """The rule's answer to what the network predicts, without gradient."""
    return assigner(priors, gt, Predictions(boxes.detach(), output.logits.detach(), iteration))


def _giou_loss(boxes: Tensor, targets: Tensor, weight: Tensor, strides: Tensor) -> Tensor:
    return giou_loss(boxes, targets, weight)
