"""Pure geometry of xyxy boxes, and the two conventions of what x2 and y2 are.

The functions measure as today's libraries do: a box is x2 - x1 wide. The methods of a
`BoxConvention` measure as boxes of that convention are meant.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor


class BoxConvention(Enum):
    """What x2 and y2 of a box are. The value is what a side counts beyond x2 - x1.

    LEGACY: the last pixel of the box, so that it is x2 - x1 + 1 wide. The releases of the
    maskrcnn-benchmark family assign, clip and suppress so.
    EXACT: the edge behind the last pixel, so that the box is x2 - x1 wide. DSLA and today's
    libraries compute so.

    The head chooses one; ground truth and detections carry it.
    """

    LEGACY = 1.0
    EXACT = 0.0

    def area(self, boxes: Tensor) -> Tensor:
        """Areas (...) of boxes (..., 4)."""
        sides = boxes[..., 2:] - boxes[..., :2] + self.value
        return sides[..., 0] * sides[..., 1]

    def intersection(self, a: Tensor, b: Tensor) -> Tensor:
        """Intersections (...) of boxes a and b, whose leading dimensions broadcast: pairwise with
        a[:, None], b[None]; aligned with equal shapes."""
        low = torch.maximum(a[..., :2], b[..., :2])
        high = torch.minimum(a[..., 2:], b[..., 2:])
        side = (high - low + self.value).clamp(min=0)
        return side[..., 0] * side[..., 1]

    def iou(self, a: Tensor, b: Tensor) -> Tensor:
        """Intersection over union (...) of boxes a and b, whose leading dimensions broadcast.

        Two boxes without extent have IoU 0.
        """
        inter = self.intersection(a, b)
        union = self.area(a) + self.area(b) - inter
        return torch.where(union > 0, inter / union, torch.zeros_like(inter))

    def limits(self, sizes: Tensor) -> Tensor:
        """(..., 4): the largest x and y of boxes in images of sizes (..., 2): height, width."""
        limit = sizes.flip(-1) - self.value
        return torch.cat((limit, limit), dim=-1)

    def clip(self, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Boxes (..., 4) moved into images of sizes (..., 2): height, width."""
        return torch.minimum(boxes.clamp(min=0), self.limits(sizes).to(boxes.dtype))


def area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4)."""
    return BoxConvention.EXACT.area(boxes)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Intersections (...) of boxes a and b: see `BoxConvention.intersection`."""
    return BoxConvention.EXACT.intersection(a, b)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (...) of boxes a and b: see `BoxConvention.iou`."""
    return BoxConvention.EXACT.iou(a, b)


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
    # Outside of a box without end, 0 times infinity is no ratio.
    return torch.where(ratio > 0, ratio / whole, torch.zeros_like(whole)).sqrt()
