"""Computes values of pairs of a row of a table and a gt box.

`index` gives the row and `box` the gt box of each pair. They are (T, K) and (T, 1), or both (M,).
"""

from __future__ import annotations

from torch import Tensor

from dynamic_atss import boxes as geometry
from dynamic_atss.ops.library import define
from dynamic_atss.types import rows


def pair_iou(boxes: Tensor, index: Tensor, gt: Tensor, box: Tensor, offset: float) -> Tensor:
    """Gives the IoU of boxes (B, 4) with the gt (T, 4), in the shape of `index`.

    Args:
        offset: 1 for the legacy convention (x2 - x1 + 1 wide), else 0.
    """
    chosen = boxes.index_select(0, index.flatten()).view(*index.shape, 4)
    return geometry.BoxConvention(offset).iou(chosen, gt[box])


def pair_sides(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    """Gives the distances of points (P, 2) to the left, top, right and bottom of gt (T, 4)."""
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return geometry.sides(chosen, gt[box]).movedim(-1, 0).contiguous()


def pair_centerness(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    """Gives the centerness of points (P, 2) in gt (T, 4), in the shape of `index`."""
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return geometry.centerness(chosen, rows(gt, box))


PAIR_IOU = define(
    "pair_iou(Tensor boxes, Tensor index, Tensor gt, Tensor box, float offset) -> Tensor",
    pair_iou,
    lambda boxes, index, gt, box, offset: boxes.new_empty(index.shape),
)
PAIR_SIDES = define(
    "pair_sides(Tensor points, Tensor index, Tensor gt, Tensor box) -> Tensor",
    pair_sides,
    lambda points, index, gt, box: points.new_empty(4, *index.shape),
)
PAIR_CENTERNESS = define(
    "pair_centerness(Tensor points, Tensor index, Tensor gt, Tensor box) -> Tensor",
    pair_centerness,
    lambda points, index, gt, box: points.new_empty(index.shape),
)
