"""Pure geometry of xyxy boxes.

`extra` is what the legacy convention of the releases adds to every side (`x2 - x1 + 1`): 1 in
assignment, coder and NMS; 0 in GIoU and in today's libraries.
"""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor, extra: float = 0.0) -> Tensor:
    """Areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0] + extra) * (boxes[..., 3] - boxes[..., 1] + extra)


def intersection(a: Tensor, b: Tensor, extra: float = 0.0) -> Tensor:
    """Intersections (...) of boxes a and b, whose leading dimensions broadcast: pairwise with
    a[:, None], b[None]; aligned with equal shapes."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    side = (high - low + extra).clamp(min=0)
    return side[..., 0] * side[..., 1]


def iou(a: Tensor, b: Tensor, extra: float = 0.0) -> Tensor:
    """Intersection over union (...) of boxes a and b, whose leading dimensions broadcast.

    Two boxes without extent have IoU 0.
    """
    inter = intersection(a, b, extra)
    union = area(a, extra) + area(b, extra) - inter
    return torch.where(union > 0, inter / union, torch.zeros_like(inter))


def giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalized IoU (...) in [-1, 1] of aligned boxes, without "+1" (Rezatofighi et al., CVPR
    2019).

    An inverted side of `a` counts as one without extent; `eps` keeps empty unions finite.
    """
    a = torch.cat((a[..., :2], torch.maximum(a[..., :2], a[..., 2:])), dim=-1)
    inter = intersection(a, b)
    union = area(a) + area(b) - inter + eps
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(a[..., 2:], b[..., 2:])
    side = high - low
    hull = side[..., 0] * side[..., 1] + eps
    return inter / union - (hull - union) / hull


def clip(boxes: Tensor, sizes: Tensor, extra: float = 1.0) -> Tensor:
    """Boxes (..., 4) moved into [0, width - extra] x [0, height - extra]; sizes (..., 2): height,
    width."""
    limit = (sizes.flip(-1) - extra).to(boxes.dtype)
    limit = torch.cat((limit, limit), dim=-1)
    return torch.minimum(boxes.clamp(min=0), limit)


def centers(boxes: Tensor) -> Tensor:
    """(..., 2): x and y of the centres of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def sides(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances (..., 4) left, top, right, bottom from points (..., 2) to the sides of boxes (...,
    4); all positive inside."""
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """sqrt of the ratio of the nearer to the farther side, both ways (Tian et al., ICCV 2019):
    (...) in [0, 1]; 1 in the centre, 0 on the border and outside."""
    left, top, right, bottom = sides(points, boxes).clamp(min=0).unbind(-1)
    ratio = torch.minimum(left, right) * torch.minimum(top, bottom)
    whole = torch.maximum(left, right) * torch.maximum(top, bottom)
    return torch.where(whole > 0, ratio / whole, torch.zeros_like(whole)).sqrt()
