"""All losses, as pure functions of (prediction, target, weight).

They are sums: the caller chooses the normaliser. The focal losses are operators, in `ops/focal.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.boxes import area, giou, intersection
from dynamic_atss.ops.focal import (
    QUALITY,
    SIGMOID,
    SOFT,
    VARIFOCAL,
    negative_term,
    positive_term,
    quality_focal_loss,
    sigmoid_focal_loss,
    sigmoid_focal_rows,
    varifocal_loss,
)
from dynamic_atss.types import IGNORE

__all__ = [
    "giou_loss",
    "iou_loss",
    "quality_focal_loss",
    "quality_loss",
    "sigmoid_focal_loss",
    "sigmoid_focal_rows",
    "smooth_l1_loss",
    "varifocal_loss",
    "weighted_focal_loss",
]

KINDS = {"focal": SIGMOID, "quality_focal": QUALITY, "varifocal": VARIFOCAL, "soft_focal": SOFT}


def giou_loss(boxes: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * (1 - GIoU).

    Args:
        boxes: (..., 4) xyxy, with gradient.
        targets: (..., 4) xyxy.
        weight: (...); where it is 0 the pair does not count.
    """
    return (weight * (1 - giou(boxes, targets))).sum()


def iou_loss(
    boxes: Tensor, targets: Tensor, weight: Tensor, kind: str, plus: Tensor | float = 0.0
) -> Tensor:
    """Sum of weight * loss, the forms of the FCOS and DSLA releases.

    Args:
        boxes: (..., 4) xyxy, sides not negative, with gradient.
        targets: (..., 4) xyxy.
        weight: (...); where it is 0 the pair does not count.
        kind: "iou" (-log IoU; Yu et al., ACM MM 2016), "linear_iou" (1 - IoU) or "giou".
        plus: (...) area that is added to intersection and union (FCOS); 0: the IoU is at least
            1e-6 in the logarithm (DSLA).
    """
    inter = intersection(boxes, targets)
    union = area(boxes) + area(targets) - inter
    iou = (inter + plus) / (union + plus).clamp(min=1e-6)
    if kind == "iou":
        bounded = iou if isinstance(plus, Tensor) or plus else iou.clamp(min=1e-6)
        return (weight * -bounded.log()).sum()
    if kind == "linear_iou":
        return (weight * (1 - iou)).sum()
    side = torch.maximum(boxes[..., 2:], targets[..., 2:]) - torch.minimum(
        boxes[..., :2], targets[..., :2]
    )
    hull = side[..., 0] * side[..., 1] + 1e-7
    return (weight * (1 - iou + (hull - union) / hull)).sum()


def smooth_l1_loss(deltas: Tensor, targets: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Sum over the last dimension and the others of weight * smooth L1 (Girshick, ICCV 2015).

    Args:
        deltas: (..., 4), with gradient.
        targets: (..., 4).
        weight: (...).
        beta: where square turns into linear.
    """
    loss = F.smooth_l1_loss(deltas, targets, beta=beta, reduction="none").sum(-1)
    return (weight * loss).sum()


def distribution_focal_loss(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * the mean over the sides of the cross-entropy with the two bins around a
    target, each by its nearness (Li et al., NeurIPS 2020).

    Args:
        logits: (..., S, B) of S sides and B bins, which mean 0 to B - 1; with gradient.
        targets: (..., S) in [0, B - 1).
        weight: (...).
    """
    below = targets.floor()
    share = targets - below  # of the bin above
    bins = below.long()[..., None] + torch.arange(2, device=targets.device)
    low, high = logits.log_softmax(-1).gather(-1, bins).unbind(-1)
    return -(weight * (low * (1 - share) + high * share).mean(-1)).sum()


def quality_loss(
    logits: Tensor, quality: Tensor, positive: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Sum over positives of the binary cross-entropy between a quality logit and its soft target.

    Args:
        logits: (...).
        quality: (...) in [0, 1].
        positive: (...) bool.
        weight: (...) of the terms; None: 1.
    """
    loss = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    loss = loss if weight is None else loss * weight
    return torch.where(positive, loss, 0.0).sum()


def weighted_focal_loss(
    logits: Tensor,
    classes: Tensor,
    label: Tensor,
    weight: Tensor | None,
    negative: Tensor | None,
    kind: str,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Tensor:
    """Sum of the focal loss `kind`, in which the term at a row's class is `weight` times that of a
    positive plus `negative` times that of the background. With 1 and 0 it is the loss of that name.

    "soft_focal" is the loss of o2f's release: BCE(p, label) at a positive's class, 0.75 p^gamma
    BCE(p, 0) elsewhere.

    Args:
        logits: (M, C).
        classes: (M,), as of the other focal losses.
        label: (M,) in [0, 1]; read where there is a class, and not by "focal".
        weight, negative: (M,), read where there is a class, with gradient; None: 1, and 0.
        kind: "focal", "quality_focal", "varifocal" or "soft_focal".
        alpha: of "focal", as in `sigmoid_focal_loss`; it is 0.75 in the last two, as in
            `varifocal_loss`.
        gamma: exponent.
    """
    if kind == "focal" and alpha < 0:
        row = logits, classes, label, weight, negative
        return 2 * weighted_focal_loss(*row, kind, 0.5, gamma)
    number = KINDS[kind]
    alpha = 0.75 if kind in ("varifocal", "soft_focal") else alpha
    background = (1 - alpha, 1.0, alpha, alpha)[number]
    place = classes.clamp(min=0)[:, None]
    x = logits.gather(1, place)[:, 0]
    with torch.no_grad():  # each has its own derivative, which stays finite where autograd's is not
        parts = negative_term(logits, background, gamma), negative_term(x, background, gamma)
        found = positive_term(x, label, number, alpha, gamma)
    of_all, of_class, of_positive = map(_attached, (logits, x, x), (*parts, found))
    # The weights of priors without a class do not pass through where, not even NaN.
    has_class = classes >= 0
    own = of_positive if weight is None else torch.where(has_class, weight, 0.0) * of_positive
    if negative is not None:
        own = own + torch.where(has_class, negative, 0.0) * of_class
    loss = of_all.scatter(1, place, torch.where(has_class, own, of_class)[:, None])
    return torch.where((classes == IGNORE)[:, None], 0.0, loss).sum()


def _attached(x: Tensor, term: tuple[Tensor, Tensor]) -> Tensor:
    """A value that has a written-out derivative with respect to x."""
    value, derivative = term
    return value + derivative * (x - x.detach())
