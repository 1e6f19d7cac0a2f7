"""Losses as pure functions of (prediction, target, weight).

They are sums: the caller chooses the normaliser.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.boxes import giou


def giou_loss(boxes: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Sum of weight * (1 - GIoU).

    Args:
        boxes: (..., 4) xyxy, with gradient.
        targets: (..., 4) xyxy.
        weight: (...); where it is 0 the pair does not count.
    """
    return (weight * (1 - giou(boxes, targets))).sum()


def quality_loss(logits: Tensor, quality: Tensor, positive: Tensor) -> Tensor:
    """Sum over positives of the binary cross-entropy between a quality logit and its soft target.

    Args:
        logits: (...).
        quality: (...) in [0, 1].
        positive: (...) bool.
    """
    loss = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return torch.where(positive, loss, 0.0).sum()
