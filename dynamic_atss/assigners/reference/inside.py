"""Locations inside regions, as integer ranges of the levels' columns and rows."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.reference.levels import anchors_of, constant, grid_of
from dynamic_atss.boxes import centers, sides
from dynamic_atss.ops.library import define

SLACK = 1e-3  # strides by which a range is widened, so that rounding loses no prior


def points_inside(
    boxes: Tensor,
    image: Tensor,
    points: Tensor,
    levels: list[int],
    offset: float,
    radius: float,
    reach: list[float],
    margin: float,
    length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grid = grid_of(tuple(levels), boxes.device)
    region = _center_region(boxes[:, None], grid.stride.squeeze(1), radius)
    if reach:
        far = constant(tuple(reach), boxes.device)
        region = _within_reach(region, boxes[:, None], far)
    anchors = anchors_of(levels, len(points))
    box, prior, flat, exists = list_locations(boxes, image, region, levels, offset, anchors, length)
    region = boxes.index_select(0, box)
    if radius:
        level = torch.searchsorted(grid.first * anchors, prior, right=True) - 1
        region = _center_region(region, grid.stride.squeeze(1).index_select(0, level), radius)
    inside = sides(points.index_select(0, prior), region).amin(-1) > margin
    return box, prior, flat, exists & inside


def list_locations(
    boxes: Tensor,
    image: Tensor,
    region: Tensor,
    numbers: list[int],
    offset: float,
    anchors: int,
    length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pairs of every box with the priors whose location lies in its region, by box, then by
    prior, in `length` places for each of the anchors of a location.

    What lies beyond the last pair has `exists` False. A location on the border of a region, or
    beyond it by rounding, may be in the list.

    Args:
        region: (T, L, 4) xyxy, or (T, 1, 4) for all levels.
        length: as `most_locations`, of regions that are at most so much larger than the boxes.
    """
    grid, levels = grid_of(tuple(numbers), boxes.device), len(numbers) // 3
    low = (region[..., :2] / grid.stride - offset - SLACK).ceil().clamp(min=0)
    high = (region[..., 2:] / grid.stride - offset + SLACK).floor().minimum(grid.last)
    # (T, L, 2): columns, rows; none where a region is NaN, as a centre between infinities is
    low, side = low.long(), (high - low + 1).nan_to_num(0).clamp(min=0).long()
    # Of every box on every level (T * L,), so that few values are looked up for each pair.
    columns = side[..., 0].clamp(min=1).flatten()
    corner = (grid.first + low[..., 1] * grid.width + low[..., 0]).flatten()
    skipped = grid.width.expand(len(boxes), -1).flatten() - columns  # locations from row to row
    count = side.prod(-1).flatten()
    end = count.cumsum(0)
    slot = torch.arange(length, device=end.device)
    index = torch.searchsorted(end, slot, right=True)  # which box on which level
    exists = index < len(end)
    index = index.clamp(max=max(len(end) - 1, 0))
    begin, columns, corner, skipped = (  # on a CPU, 4 times as fast as x[index]
        x.index_select(0, index) for x in (end - count, columns, corner, skipped)
    )
    rank = slot - begin
    location = corner + rank + rank // columns * skipped
    box = index // levels
    if anchors > 1:
        anchor = torch.arange(anchors, device=location.device)
        location = (location[:, None] * anchors + anchor).flatten()
        box, exists = box.repeat_interleave(anchors), exists.repeat_interleave(anchors)
    prior = torch.where(exists, location, 0)
    priors = grid.locations * anchors
    return box, prior, image.index_select(0, box) * priors + prior, exists


def _center_region(boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    """The part (..., 4) of boxes (..., 4) within `radius` strides (...) of their centres, both
    ways; radius 0: all of them."""
    if not radius:
        return boxes
    half = (strides * radius)[..., None]
    low = torch.maximum(centers(boxes) - half, boxes[..., :2])
    return torch.cat((low, torch.minimum(centers(boxes) + half, boxes[..., 2:])), dim=-1)


def _within_reach(region: Tensor, boxes: Tensor, reach: Tensor) -> Tensor:
    """The part (..., 4) of a region from where no side of the box is farther than `reach` (...);
    its own sides are at most that long."""
    far = reach[..., None]
    # A side without end meets a reach without end: that is no limit.
    first = (boxes[..., 2:] - far).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    last = (boxes[..., :2] + far).nan_to_num(torch.inf, torch.inf, -torch.inf)
    return torch.cat(
        (torch.maximum(region[..., :2], first), torch.minimum(region[..., 2:], last)), dim=-1
    )


def most_locations(
    extent: Tensor, levels: list[int], radius: float, reach: list[float], margin: list[float]
) -> int:
    """A bound on the number of locations in all regions: n strides hold n + 1 lines at most.

    Args:
        reach: by level, the longest side that a region may have; [] = no limit.
        margin: by level, by how much a region may be wider or higher than its box; [] = 0.
    """
    grid = grid_of(tuple(levels), extent.device)
    side = extent[:, None]
    if reach:  # from where a longer box is left by no more than `far`, it is by no less than that
        far = constant(tuple(reach), side.device)[:, None]
        side = torch.fmin(side, 2 * far - side)
    if margin:
        side = side + constant(tuple(margin), side.device)[:, None]
    strides = side / grid.stride
    if radius:
        strides = strides.clamp(max=2 * radius)
    lines = ((strides + 3 * SLACK).floor() + 1).nan_to_num(0).clamp(min=0).minimum(grid.last + 1)
    return max(int(lines.prod(-1).sum()), min(len(extent), 1))  # a place to point at


def _fake_inside(
    boxes: Tensor,
    image: Tensor,
    points: Tensor,
    levels: list[int],
    offset: float,
    radius: float,
    reach: list[float],
    margin: float,
    length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slots = length * anchors_of(levels, len(points))
    box, prior, flat = (image.new_empty(slots) for _ in range(3))
    return box, prior, flat, image.new_empty(slots, dtype=torch.bool)


# Without a kernel: an operator, so that torch.compile need not know the number.
MOST_LOCATIONS = define(
    "most_locations(Tensor extent, int[] levels, float radius, float[] reach, float[] margin)"
    " -> SymInt",
    most_locations,
    lambda *arguments: torch.library.get_ctx().new_dynamic_size(),
)
POINTS_INSIDE = define(
    "points_inside(Tensor boxes, Tensor image, Tensor points, int[] levels, float offset,"
    " float radius, float[] reach, float margin, SymInt length)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    points_inside,
    _fake_inside,
)
