"""Computes all losses, as pure functions of (prediction, target, weight).

They return sums. The caller chooses the normaliser. The focal losses are operators in
`ops/focal.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.boxes import area, giou, intersection
from dynamic_atss.ops.focal import (
    quality_focal_loss,
    sigmoid_focal_loss,
    sigmoid_focal_rows,
    varifocal_loss,
)
from dynamic_atss.ops.focal_terms import (
    QUALITY,
    SIGMOID,
    SOFT,
    VARIFOCAL,
    negative_term,
    positive_term,
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
    """Sums weight * (1 - GIoU).

    Args:
        boxes: (..., 4) xyxy, with gradient.
        targets: (..., 4) xyxy.
        weight: (...); a pair with weight 0 does not count.
    """
    return (weight * (1 - giou(boxes, targets))).sum()


def iou_loss(
    boxes: Tensor, targets: Tensor, weight: Tensor, kind: str, plus: Tensor | float = 0.0
) -> Tensor:
    """Sums weight * IoU loss, as the FCOS and DSLA releases do.

    Args:
        boxes: (..., 4) xyxy, sides not negative, with gradient.
        targets: (..., 4) xyxy.
        weight: (...); a pair with weight 0 does not count.
        kind: "iou" (-log IoU; Yu et al., ACM MM 2016), "linear_iou" (1 - IoU) or "giou".
        plus: (...) area that is added to intersection and union (FCOS). With 0, the logarithm takes
            an IoU of at least 1e-6 (DSLA).
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
    """Sums weight * smooth L1 loss (Girshick, ICCV 2015) over all entries.

    Args:
        deltas: (..., 4), with gradient.
        targets: (..., 4).
        weight: (...).
        beta: the difference at which the square loss turns into a linear one.
    """
    loss = F.smooth_l1_loss(deltas, targets, beta=beta, reduction="none").sum(-1)
    return (weight * loss).sum()


def distribution_focal_loss(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Sums weight * distribution focal loss (Li et al., NeurIPS 2020).

    The loss of a side is the cross-entropy with the two bins around its target, each weighted by
    how near it is to the target. The loss of a box is the mean over its sides.

    Args:
        logits: (..., S, B) of S sides and B bins, whose values are 0 to B - 1; with gradient.
        targets: (..., S) in [0, B - 1).
        weight: (...).
    """
    below = targets.floor()
    share = targets - below  # weight of the upper bin
    bins = below.long()[..., None] + torch.arange(2, device=targets.device)
    low, high = logits.log_softmax(-1).gather(-1, bins).unbind(-1)
    return -(weight * (low * (1 - share) + high * share).mean(-1)).sum()


def quality_loss(
    logits: Tensor, quality: Tensor, positive: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Sums the binary cross-entropy between quality logits and soft targets over positives.

    Args:
        logits: (...).
        quality: (...) in [0, 1].
        positive: (...) bool.
        weight: (...) of each term; None: 1.
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
    background: Tensor | None = None,
) -> Tensor:
    """Sums the focal loss `kind` with weighted terms.

    The term at the class of a row is `weight` times the positive term plus `negative` times the
    background term. All background terms are multiplied by `background`. `weight` 1, `negative` 0
    and `background` 1 give the usual loss of that name.

    "soft_focal" is the loss of o2f's release: BCE(p, label) at a positive's class, and
    0.75 p^gamma BCE(p, 0) at the other classes.

    Args:
        logits: (M, C) of M priors and C classes.
        classes: (M,), as in the other focal losses.
        label: (M,) in [0, 1], used for rows with a class; "focal" does not use it.
        weight: (M,), used for rows with a class, with gradient; None: 1.
        negative: (M,), used for rows with a class, with gradient; None: 0.
        kind: "focal", "quality_focal", "varifocal" or "soft_focal".
        alpha: as in `sigmoid_focal_loss`, for "focal". "varifocal" and "soft_focal" use 0.75, as
            `varifocal_loss` does.
        gamma: exponent.
        background: scalar, without gradient; None: 1.
    """
    if kind == "focal" and alpha < 0:
        return 2 * weighted_focal_loss(
            logits, classes, label, weight, negative, kind, 0.5, gamma, background
        )
    number = KINDS[kind]
    alpha = 0.75 if kind in ("varifocal", "soft_focal") else alpha
    factor: float | Tensor = (1 - alpha, 1.0, alpha, alpha)[number]
    if background is not None:
        factor = factor * background
    column = classes.clamp(min=0)[:, None]
    x = logits.gather(1, column)[:, 0]
    with torch.no_grad():  # the terms give derivatives that stay finite where autograd's do not
        all_terms = negative_term(logits, factor, gamma)
        class_term = negative_term(x, factor, gamma)
        label_term = positive_term(x, label, number, alpha, gamma)
    at_class = _mixed(
        classes >= 0,
        _with_derivative(x, label_term),
        _with_derivative(x, class_term),
        weight,
        negative,
    )
    loss = _with_derivative(logits, all_terms).scatter(1, column, at_class[:, None])
    return torch.where((classes == IGNORE)[:, None], 0.0, loss).sum()


def _mixed(
    has_class: Tensor,
    positive: Tensor,
    background: Tensor,
    weight: Tensor | None,
    negative: Tensor | None,
) -> Tensor:
    """Adds the weighted positive and background terms of each row's class; all tensors are (M,).

    The weights of rows without a class, even NaN, do not reach the result or the gradient.
    """
    mixed = positive
    if weight is not None:
        mixed = torch.where(has_class, weight, 0.0) * positive
    if negative is not None:
        mixed = mixed + torch.where(has_class, negative, 0.0) * background
    return torch.where(has_class, mixed, background)


def _with_derivative(x: Tensor, term: tuple[Tensor, Tensor]) -> Tensor:
    """Gives a value whose derivative with respect to x is the second part of `term`."""
    value, derivative = term
    return value + derivative * (x - x.detach())
