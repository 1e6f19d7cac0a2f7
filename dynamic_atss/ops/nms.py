"""Non-maximum suppression within classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms


def multiclass_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, extra: float = 1.0
) -> Tensor:
    """Indices of the boxes that are kept, best score first.

    A box is suppressed by a better one of its class with IoU > threshold.

    Args:
        boxes: (M, 4) xyxy.
        scores: (M,).
        classes: (M,) int64.
        extra: 1 for the legacy "+1" sides, 0 for today's.
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    # Classes are moved apart so that one pass serves them all. In float64, since a float32
    # coordinate beyond 2^16 has steps of 1/128 pixel, which move IoUs across the threshold.
    apart = boxes.double()
    span = apart.max() - apart.min() + extra + 1
    apart = apart + (classes * span)[:, None]
    apart[:, 2:] += extra
    return nms(apart, scores.double(), threshold)
