"""From the head's output to the loss terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.assigners import Assigner
from dynamic_atss.losses import giou_loss, quality_loss
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.ops.focal import quality_focal_loss, sigmoid_focal_loss
from dynamic_atss.types import GroundTruth, Predictions, Priors


class Criterion:
    """Class, box and quality loss of the ATSS family.

    Normalisers are means over the processes, from one collective per step whatever the data: the
    class and the quality loss are divided by the number of positives (at least 1), the GIoU loss,
    weighted by the quality, by the sum of the qualities.

    Args:
        assigner: the rule.
        coder: decodes the deltas.
        average: mean of a tensor over the processes.
        alpha, gamma: of the focal losses.
        box_weight: weight of the box loss.
    """

    def __init__(
        self,
        assigner: Assigner,
        coder: Any,
        average: Callable[[Tensor], Tensor],
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        box_weight: float = 2.0,
    ) -> None:
        self.assigner = assigner
        self.coder = coder
        self.average = average
        self.alpha = alpha
        self.gamma = gamma
        self.box_weight = box_weight

    def __call__(self, output: HeadOutput, priors: Priors, gt: GroundTruth) -> dict[str, Tensor]:
        """The loss terms, scalars, by the names that the releases log."""
        boxes = self.coder.decode(output.deltas, priors.boxes)
        predictions = Predictions(boxes.detach(), output.logits.detach())
        target = self.assigner(priors, gt, predictions)
        positive, quality = target.positive, target.quality

        totals = self.average(torch.stack((positive.sum().float(), quality.sum())))
        positives = totals[0].clamp(min=1.0)
        qualities = totals[1].clamp(
            min=torch.finfo(torch.float32).eps
        )  # all of quality 0: loss 0, not inf

        gt_boxes = _rows(gt.boxes, target.gt_index)
        return {
            "loss_cls": self._class_loss(output.logits, target.gt_index, gt, quality) / positives,
            "loss_reg": giou_loss(boxes, gt_boxes, quality) / qualities * self.box_weight,
            f"loss_{self.assigner.quality_name}": quality_loss(output.quality, quality, positive)
            / positives,
        }

    def _class_loss(
        self, logits: Tensor, gt_index: Tensor, gt: GroundTruth, quality: Tensor
    ) -> Tensor:
        classes = torch.where(gt_index >= 0, _rows(gt.classes, gt_index), gt_index).flatten()
        logits = logits.flatten(0, 1)
        if self.assigner.soft_labels:
            return quality_focal_loss(logits, classes, quality.flatten(), self.gamma)
        return sigmoid_focal_loss(logits, classes, self.alpha, self.gamma)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index], and zeros where the index is negative; values may have no rows."""
    padded = torch.cat((values, values.new_zeros(1, *values.shape[1:])))
    return padded[torch.where(index < 0, len(values), index)]
