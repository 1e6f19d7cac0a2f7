"""All losses, as pure functions of (prediction, target, weight).

They are sums: the caller chooses the normaliser. The focal losses are operators, in `ops/focal.py`.
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

__all__ = [
    "giou_loss",
    "iou_loss",
    "quality_focal_loss",
    "quality_loss",
    "sigmoid_focal_loss",
    "sigmoid_focal_rows",
    "smooth_l1_loss",
    "varifocal_loss",
]


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


def quality_loss(logits: Tensor, quality: Tensor, positive: Tensor) -> Tensor:
    """Sum over positives of the binary cross-entropy between a quality logit and its soft target.

    Args:
        logits: (...).
        quality: (...) in [0, 1].
        positive: (...) bool.
    """
    loss = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return torch.where(positive, loss, 0.0).sum()
