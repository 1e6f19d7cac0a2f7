"""Defines box terms, the losses of the box regression of positives.

A box term is called with (raw, decoded, targets, weight, priors) and returns sums by name:
    raw: (N, P, R) the head's output.
    decoded: (N, P, 4) xyxy, decoded from `raw`.
    targets: (N, P, 4) xyxy.
    weight: (N, P).
    priors: `Priors`.

For priors that are not positive, weight and raw are 0, and decoded equals targets. Names are
"loss_..." and the same in every step. The criterion divides each sum by its normaliser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dynamic_atss.losses import (
    distribution_focal_loss,
    giou_loss,
    iou_loss,
    smooth_l1_loss,
)
from dynamic_atss.modeling.coder import DistributionCoder
from dynamic_atss.modeling.terms import check_box_terms, joined
from dynamic_atss.types import Priors

BoxTerm = Callable[[Tensor, Tensor, Tensor, Tensor, Priors], dict[str, Tensor]]
AREAS = ("", "pixels", "strides")
BELOW_LAST = 0.1  # bins between the largest target and the last bin, as published


def giou(
    raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
) -> dict[str, Tensor]:
    """Computes 1 - GIoU."""
    return {"loss_reg": giou_loss(decoded, targets, weight)}


class IoU:
    """Computes the IoU losses of the FCOS and DSLA releases, for boxes without negative sides.

    Args:
        kind: "iou" (-log IoU), "linear_iou" (1 - IoU) or "giou".
        area: unit of the area of 1 that FCOS adds to intersection and union: square "pixels" or
            square "strides", the unit of its distances. "" (DSLA) adds nothing.

    Raises:
        ValueError: `area` is unknown.
    """

    def __init__(self, kind: str, area: str = "") -> None:
        if area not in AREAS:
            raise ValueError(f"area is {area!r}; it must be one of {AREAS}")
        self.kind, self.area = kind, area

    def __call__(
        self, raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
    ) -> dict[str, Tensor]:
        plus = {"": 0.0, "pixels": 1.0}.get(self.area)
        area = priors.strides.square() if plus is None else plus
        return {"loss_reg": iou_loss(decoded, targets, weight, self.kind, area)}


class SmoothL1:
    """Computes smooth L1 of the deltas (RetinaNet).

    Args:
        coder: encodes the targets.
        beta: difference at which the square turns into a line.
    """

    def __init__(self, coder: Any, beta: float) -> None:
        self.coder, self.beta = coder, beta

    def __call__(
        self, raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
    ) -> dict[str, Tensor]:
        wanted = self.coder.encode(targets, priors.boxes)
        return {"loss_reg": smooth_l1_loss(raw, wanted, weight, self.beta)}


class Distribution(nn.Module):
    """Adds distribution focal loss of the raw values to a term of the decoded box.

    Li et al., NeurIPS 2020, arXiv 2006.04388.

    Args:
        coder: of the head.
        term: of the decoded box.
        box_weight, weight: of the box term and of distribution focal loss.
    """

    def __init__(
        self, coder: DistributionCoder, term: BoxTerm, box_weight: float, weight: float
    ) -> None:
        super().__init__()
        self.coder, self.term = coder, term
        self.box_weight, self.weight = box_weight, weight

    def forward(
        self, raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
    ) -> dict[str, Tensor]:
        distances = self.coder.encode(targets, priors.boxes)
        distances = distances.clamp(0, self.coder.reg_max - BELOW_LAST)
        loss = distribution_focal_loss(self.coder.logits(raw), distances, weight)
        terms = self.term(raw, decoded, targets, weight, priors)
        check_box_terms(terms)
        weighted = {name: self.box_weight * x for name, x in terms.items()}
        return joined(weighted, {"loss_dfl": self.weight * loss}, "box loss")


# By the names of MODEL.BOX_LOSS. Smooth L1 is missing, because it needs the head's coder.
BOX_LOSSES: dict[str, BoxTerm] = {
    "giou": giou,
    "iou": IoU("iou"),
    "linear_iou": IoU("linear_iou"),
}
