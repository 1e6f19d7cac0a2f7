"""Box terms: what the regression of positives costs.

A box term is called with (raw, decoded, targets, weight, priors) and returns sums by name:
raw (N, P, R) as the head gives it · decoded (N, P, 4) xyxy, of `raw` · targets (N, P, 4) xyxy ·
weight (N, P) · priors, `Priors`. Where there is no positive, weight and raw are 0 and decoded is
targets. Names are "loss_..." and always the same; the criterion divides each sum by its
normaliser. So a distribution over distances is a coder that decodes it, and a term (`Distribution`)
that adds to the loss of the decoded box one of the raw values.
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
BELOW_LAST = 0.1  # bins: how far below the last one the farthest target lies, as published


def giou(
    raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
) -> dict[str, Tensor]:
    """1 - GIoU."""
    return {"loss_reg": giou_loss(decoded, targets, weight)}


class IoU:
    """The forms of the FCOS and DSLA releases, for boxes whose sides are not negative.

    Args:
        kind: "iou" (-log IoU), "linear_iou" (1 - IoU) or "giou".
        area: FCOS adds an area of 1 to intersection and union, in squares of "pixels" or of
            "strides", the unit of its distances; "" (DSLA) adds nothing.

    Raises:
        ValueError: an unknown `area`.
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
    """Smooth L1 of what the network regresses (RetinaNet).

    Args:
        coder: encodes the targets.
        beta: where square turns into linear.
    """

    def __init__(self, coder: Any, beta: float) -> None:
        self.coder, self.beta = coder, beta

    def __call__(
        self, raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
    ) -> dict[str, Tensor]:
        wanted = self.coder.encode(targets, priors.boxes)
        return {"loss_reg": smooth_l1_loss(raw, wanted, weight, self.beta)}


class Distribution(nn.Module):
    """A term of the decoded box and, beside it, distribution focal loss of what it is decoded from
    (Li et al., NeurIPS 2020, arXiv 2006.04388).

    Args:
        coder: of the head.
        term: of the box.
        box_weight, weight: of the two.
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
        own = {"loss_dfl": self.weight * loss}
        return joined({name: self.box_weight * x for name, x in terms.items()}, own, "box loss")


# By the names of MODEL.BOX_LOSS. Smooth L1 is not among them: it needs the head's coder.
BOX_LOSSES: dict[str, BoxTerm] = {
    "giou": giou,
    "iou": IoU("iou"),
    "linear_iou": IoU("linear_iou"),
}
