"""Computes the geometry of xyxy boxes, under the two conventions for the meaning of x2 and y2.

The functions take a box to be x2 - x1 wide, as today's libraries do. The methods of a
`BoxConvention` measure boxes by that convention.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor


class BoxConvention(Enum):
    """Defines the meaning of x2 and y2 of a box. The value is added to x2 - x1 to give a side.

    The head chooses the convention. Ground truth and detections store it.

    Attributes:
        LEGACY: x2 is the last pixel of the box, so the box is x2 - x1 + 1 wide. The releases of
            the maskrcnn-benchmark family assign, clip and suppress boxes in this way.
        EXACT: x2 is the edge behind the last pixel, so the box is x2 - x1 wide. DSLA and today's
            libraries use it.
    """

    LEGACY = 1.0
    EXACT = 0.0

    def area(self, boxes: Tensor) -> Tensor:
        """Gives the areas (...) of boxes (..., 4)."""
        sides = boxes[..., 2:] - boxes[..., :2] + self.value
        return sides[..., 0] * sides[..., 1]

    def intersection(self, a: Tensor, b: Tensor) -> Tensor:
        """Gives the areas (...) in which boxes a and b overlap.

        Leading dimensions broadcast: a[:, None] and b[None] give all pairs, equal shapes give
        aligned pairs.
        """
        low = torch.maximum(a[..., :2], b[..., :2])
        high = torch.minimum(a[..., 2:], b[..., 2:])
        side = (high - low + self.value).clamp(min=0)
        return side[..., 0] * side[..., 1]

    def iou(self, a: Tensor, b: Tensor) -> Tensor:
        """Gives intersection over union (...) of boxes a and b, whose leading dimensions broadcast.

        Two boxes with area 0 have IoU 0.
        """
        inter = self.intersection(a, b)
        union = self.area(a) + self.area(b) - inter
        return torch.where(union > 0, inter / union, torch.zeros_like(inter))

    def limits(self, sizes: Tensor) -> Tensor:
        """Gives the largest x and y (..., 4) of boxes in images of `sizes` (..., 2).

        Sizes are (height, width).
        """
        limit = sizes.flip(-1) - self.value
        return torch.cat((limit, limit), dim=-1)

    def clip(self, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Clips boxes (..., 4) to images of sizes (..., 2): height, width."""
        return torch.minimum(boxes.clamp(min=0), self.limits(sizes).to(boxes.dtype))


def area(boxes: Tensor) -> Tensor:
    """Gives the areas (...) of boxes (..., 4)."""
    return BoxConvention.EXACT.area(boxes)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Gives the areas (...) in which boxes a and b overlap: see `BoxConvention.intersection`."""
    return BoxConvention.EXACT.intersection(a, b)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Gives intersection over union (...) of boxes a and b: see `BoxConvention.iou`."""
    return BoxConvention.EXACT.iou(a, b)


def giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """Gives the generalized IoU (...) in [-1, 1] of aligned boxes, without "+1".

    Follows Rezatofighi et al., CVPR 2019. A side of `a` with x2 < x1 counts as 0. `eps` keeps the
    result finite for empty unions.
    """
    a = torch.cat((a[..., :2], torch.maximum(a[..., :2], a[..., 2:])), dim=-1)
    inter = intersection(a, b)
    union = area(a) + area(b) - inter + eps
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(a[..., 2:], b[..., 2:])
    side = high - low
    hull = side[..., 0] * side[..., 1] + eps
    return inter / union - (hull - union) / hull


def centers(boxes: Tensor) -> Tensor:
    """Gives the centres (..., 2), x and y, of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def sides(points: Tensor, boxes: Tensor) -> Tensor:
    """Gives the distances (..., 4) from points to the left, top, right and bottom side of boxes.

    All are positive inside the box.

    Args:
        points: (..., 2).
        boxes: (..., 4).
    """
    return torch.cat((points - boxes[..., :2], boxes[..., 2:] - points), dim=-1)


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """Gives the centerness (...) in [0, 1] of points (..., 2) in boxes (..., 4).

    It is the square root of (nearer / farther side), horizontally times vertically. It is 1 in the
    centre, and 0 on the border and outside (Tian et al., ICCV 2019).
    """
    left, top, right, bottom = sides(points, boxes).clamp(min=0).unbind(-1)
    nearer = torch.minimum(left, right) * torch.minimum(top, bottom)
    farther = torch.maximum(left, right) * torch.maximum(top, bottom)
    # A point outside an infinite box would give 0 times infinity, which is NaN.
    return torch.where(nearer > 0, nearer / farther, torch.zeros_like(farther)).sqrt()
