"""Computes the loss terms from the head's output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dynamic_atss.assigners import Assigner
from dynamic_atss.boxes import iou
from dynamic_atss.losses import quality_loss
from dynamic_atss.modeling.assignment_metrics import assignment_metrics
from dynamic_atss.modeling.box_terms import BoxTerm, SmoothL1, giou
from dynamic_atss.modeling.branches import Outputs, branch
from dynamic_atss.modeling.class_loss import ClassLoss, default_class_loss
from dynamic_atss.modeling.gather_targets import Matched, match
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.terms import Terms, check_box_terms, joined
from dynamic_atss.types import GroundTruth, Priors

LABELS = ("quality", "iou", "quality_x_iou")
RETINANET = {"loss_cls": "loss_retina_cls", "loss_reg": "loss_retina_reg"}  # as released
EPS = torch.finfo(torch.float32).eps

Average = Callable[[Tensor], Tensor]  # averages a tensor over the processes


class DenseCriterion(nn.Module):
    """Calls the rule and turns its answer into `Terms`. It is the base class of the criteria.

    A rule, box term or coder that is an `nn.Module` belongs to the model, and is trained.

    Args:
        assigner: the rule.
        coder: decodes the deltas.
        average: averages a tensor over the processes.
        class_loss: None: quality focal if the rule has soft labels, else focal.
        box_loss: a box term, see `box_terms`.
    """

    def __init__(
        self,
        assigner: Assigner,
        coder: Any,
        average: Average,
        class_loss: ClassLoss | None,
        box_loss: BoxTerm,
    ) -> None:
        super().__init__()
        self.assigner = assigner
        self.coder = coder
        self.average = average
        self.class_loss = class_loss or default_class_loss(assigner)
        self.box_loss = box_loss

    def forward(
        self, outputs: Outputs, priors: Priors, gt: GroundTruth, iteration: int = 0
    ) -> Terms:
        """Computes losses and metrics. The loss terms have the names that the releases log.

        Raises:
            UserError: a name of a loss term or metric is invalid, or the head has several branches
                and needs a `BranchCriterion`.
        """
        output = branch(outputs, None, f"criterion {type(self).__name__}")
        found = match(self.assigner, self.coder, output, priors, gt, iteration)
        losses = joined(self.losses(found, output, priors, gt), found.target.losses)
        metrics = assignment_metrics(found, priors, gt)
        return Terms(losses, joined(metrics, found.target.metrics))

    def losses(
        self, found: Matched, output: HeadOutput, priors: Priors, gt: GroundTruth
    ) -> dict[str, Tensor]:
        """Computes the loss terms with one collective call in every step, also without boxes."""
        raise NotImplementedError

    def averaged(self, sums: Tensor, found: Matched) -> tuple[Tensor, Tensor | None]:
        """Averages `sums` and the rule's divisors over the processes by one collective call."""
        divisors = found.target.divisors
        if divisors is None:
            return self.average(sums), None
        both = self.average(torch.cat((sums, divisors.detach().to(sums))))
        return both[: len(sums)], both[len(sums) :].clamp(min=EPS)

    def box_terms(self, found: Matched, weight: Tensor, priors: Priors) -> dict[str, Tensor]:
        """Computes the sums of the box term by name. Multiplies weight (N, P) by the rule's weight.

        Raises:
            UserError: the box term returns something else.
        """
        weight = found.weighted(weight)
        terms = self.box_loss(found.raw, found.boxes, found.targets, weight, priors)
        check_box_terms(terms)
        return terms


class Criterion(DenseCriterion):
    """Computes class, box and quality loss of heads whose box loss compares boxes.

    Divides the class and the quality loss by the number of positives, at least 1. Weighs the box
    loss by the quality or the score, and divides it by the sum of these weights. A rule that gives
    `divisors` replaces all of them. The divisors are means over the processes, from one collective
    call in every step. They do not contain the rule's weights.

    Args:
        assigner, coder, average, class_loss: see `DenseCriterion`.
        box_loss: None: GIoU.
        class_weight, box_weight, quality_weight: of the terms.
        label: the soft class target of positives, one of LABELS. "iou" is that of the predicted
            box.
        divide_by_labels: True divides the class loss by the sum of the labels, at least 1.
        least_quality: lower bound of the box loss's divisor.
        weigh_by: weight of a positive's box loss, "quality" or "score" (the largest class score).
    """

    def __init__(
        self,
        assigner: Assigner,
        coder: Any,
        average: Average,
        *,
        class_loss: ClassLoss | None = None,
        box_loss: BoxTerm | None = None,
        class_weight: float = 1.0,
        box_weight: float = 2.0,
        quality_weight: float = 1.0,
        label: str = "quality",
        divide_by_labels: bool = False,
        least_quality: float = EPS,
        weigh_by: str = "quality",
    ) -> None:
        super().__init__(assigner, coder, average, class_loss, box_loss or giou)
        self.class_weight = class_weight
        self.box_weight = box_weight
        self.quality_weight = quality_weight
        self.label = label
        self.divide_by_labels = divide_by_labels
        self.least_quality = least_quality
        self.weigh_by = weigh_by

    def losses(
        self, found: Matched, output: HeadOutput, priors: Priors, gt: GroundTruth
    ) -> dict[str, Tensor]:
        """Gives loss_cls, the terms of the box loss, and the loss of a quality branch.

        The rule names the last one.
        """
        positive, quality = found.positive, found.quality
        label = self._labels(found.boxes.detach(), found.targets, quality)
        weight = quality
        if self.weigh_by == "score":
            score = output.logits.detach().amax(-1).sigmoid()
            weight = torch.where(positive, score, 0.0)
        sums = torch.stack((positive.sum().float(), weight.sum(), label.sum()))
        sums, divisors = self.averaged(sums, found)
        positives, weights, labels = sums
        positives = positives.clamp(min=1.0)
        # If all qualities are 0, the loss is 0 and not infinite.
        weights = weights.clamp(min=self.least_quality)
        divisor = labels.clamp(min=1.0) if self.divide_by_labels else positives
        background = None
        if divisors is not None:
            positives = weights = divisor = divisors[0]
            background = divisors[1] / self.class_weight
        class_loss = self.class_loss(
            output.logits, found.target, gt, label, divisor / self.class_weight, background
        )
        losses = {"loss_cls": class_loss}
        terms = self.box_terms(found, weight, priors)
        scaled = {name: x / weights * self.box_weight for name, x in terms.items()}
        losses = joined(losses, scaled, "box loss")
        if output.quality is None:
            return losses
        loss = quality_loss(output.quality, quality, positive, found.weight) / positives
        loss = loss * self.quality_weight
        return joined(losses, {f"loss_{self.assigner.quality_name}": loss}, "quality branch")

    def _labels(self, boxes: Tensor, targets: Tensor, quality: Tensor) -> Tensor:
        if self.label == "quality":
            return quality
        found = torch.where(quality > 0, iou(boxes, targets), 0.0)
        return found if self.label == "iou" else found * quality


class RetinaNetCriterion(DenseCriterion):
    """Computes class loss and smooth L1 of the deltas as released (Lin et al., ICCV 2017).

    Divides the class loss by positives + images, and the box loss by positives * `divisor`. A rule
    that gives `divisors` replaces both. The numbers are means over the processes, from one
    collective call per step.

    Args:
        assigner, coder, average, class_loss: see `DenseCriterion`.
        box_loss: None: smooth L1 with `beta`.
        divisor: of the box loss.
    """

    def __init__(
        self,
        assigner: Assigner,
        coder: Any,
        average: Average,
        *,
        class_loss: ClassLoss | None = None,
        box_loss: BoxTerm | None = None,
        beta: float = 0.11,
        divisor: float = 4.0,
    ) -> None:
        super().__init__(assigner, coder, average, class_loss, box_loss or SmoothL1(coder, beta))
        self.divisor = divisor

    def losses(
        self, found: Matched, output: HeadOutput, priors: Priors, gt: GroundTruth
    ) -> dict[str, Tensor]:
        """Gives loss_retina_cls, and loss_retina_reg or the terms of another box loss."""
        positive = found.positive
        sums, divisors = self.averaged(positive.sum().float()[None], found)
        divisor, background = sums[0] + len(positive), None
        box_divisor = (sums[0] * self.divisor).clamp(min=1.0)
        if divisors is not None:
            divisor, background = divisors
            box_divisor = divisor
        class_loss = self.class_loss(
            output.logits, found.target, gt, found.quality, divisor, background
        )
        terms = self.box_terms(found, positive.float(), priors)
        scaled = {name: x / box_divisor for name, x in terms.items()}
        losses = joined({"loss_cls": class_loss}, scaled, "box loss")
        return {RETINANET.get(name, name): x for name, x in losses.items()}
