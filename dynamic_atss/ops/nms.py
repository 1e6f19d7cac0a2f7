"""Non-maximum suppression within classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms

# Boxes of all classes in one pass, whose time and (on a GPU) memory are quadratic. A plain test has
# at most 5,000; 60,000, of test-time augmentation without VOTE, take 7 s on a CPU, by class 0.2 s.
_ONE_PASS = 20_000


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
    if len(boxes) > _ONE_PASS:
        return _class_by_class(boxes, scores, classes, threshold, extra)
    if not len(boxes):
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    # Classes are moved apart so that one pass serves them all. In float64, since a float32
    # coordinate beyond 2^16 has steps of 1/128 pixel, which move IoUs across the threshold.
    apart = boxes.double()
    span = apart.max() - apart.min() + extra + 1
    apart = apart + (classes * span)[:, None]
    apart[:, 2:] += extra
    return nms(apart, scores.double(), threshold)


def _class_by_class(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, extra: float
) -> Tensor:
    kept = []
    for c in classes.unique():
        own = (classes == c).nonzero()[:, 0]
        legacy = boxes[own].double()
        legacy[:, 2:] += extra
        kept.append(own[nms(legacy, scores[own].double(), threshold)])
    keep = torch.cat(kept).sort().values  # so that equal scores stay in the order of their indices
    return keep[scores[keep].argsort(descending=True, stable=True)]
