"""What can be asked of pairs: a row of some values, by its index, and a gt box.

`index` and `box` are (T, K) and (T, 1), or (M,) both; so are the results.
"""

from __future__ import annotations

from torch import Tensor

from dynamic_atss import boxes as geometry
from dynamic_atss.ops.library import define
from dynamic_atss.types import rows


def pair_iou(boxes: Tensor, index: Tensor, gt: Tensor, box: Tensor, extra: float) -> Tensor:
    chosen = boxes.index_select(0, index.flatten()).view(*index.shape, 4)
    return geometry.BoxConvention(extra).iou(chosen, gt[box])


def pair_sides(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return geometry.sides(chosen, gt[box]).movedim(-1, 0).contiguous()


def pair_centerness(points: Tensor, index: Tensor, gt: Tensor, box: Tensor) -> Tensor:
    chosen = points.index_select(0, index.flatten()).view(*index.shape, 2)
    return geometry.centerness(chosen, rows(gt, box))


PAIR_IOU = define(
    "pair_iou(Tensor boxes, Tensor index, Tensor gt, Tensor box, float extra) -> Tensor",
    pair_iou,
    lambda boxes, index, gt, box, extra: boxes.new_empty(index.shape),
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
