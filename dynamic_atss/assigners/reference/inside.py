"""Finds locations inside regions by integer ranges of the levels' columns and rows."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.reference.levels import anchors_of, constant, grid_of
from dynamic_atss.boxes import centers, sides
from dynamic_atss.ops.library import define

# Lists fill whole vectors of float32 numbers. CPU libraries compute a rest that fills no vector by
# other code, which may round otherwise. Then equal boxes would not score the same.
VECTOR = 16
SLACK = 1e-3  # strides by which a range is widened, so that rounding excludes no prior


def points_inside(
    boxes: Tensor,
    image_index: Tensor,
    points: Tensor,
    levels: list[int],
    offset: float,
    radius: float,
    reach: list[float],
    margin: float,
    length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs every box with the priors whose location lies inside it.

    Args:
        boxes, image_index: (T, 4) and (T,).
        points: (P, 2) centres of the priors.
        radius, reach, margin: see `dynamic_atss.assigners.ranges.points_inside`.
        length: from `most_locations`.

    Returns:
        box, prior, flat and exists, (M,) each.
    """
    grid = grid_of(tuple(levels), boxes.device)
    region = _center_region(boxes[:, None], grid.stride.squeeze(1), radius)
    if reach:
        far = constant(tuple(reach), boxes.device)
        region = _within_reach(region, boxes[:, None], far)
    anchors = anchors_of(levels, len(points))
    box, prior, flat, exists = list_locations(
        boxes, image_index, region, levels, offset, anchors, length
    )
    region = boxes.index_select(0, box)
    if radius:
        level = torch.searchsorted(grid.first * anchors, prior, right=True) - 1
        region = _center_region(region, grid.stride.squeeze(1).index_select(0, level), radius)
    inside = sides(points.index_select(0, prior), region).amin(-1) > margin
    return box, prior, flat, exists & inside


def list_locations(
    boxes: Tensor,
    image_index: Tensor,
    region: Tensor,
    numbers: list[int],
    offset: float,
    anchors: int,
    length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lists the pairs of every box with the priors whose location lies in its region.

    Sorts them by box, then by prior. Places after the last pair have `exists` False. Locations on
    the border of a region, or outside by rounding, may be in the list.

    Args:
        region: (T, L, 4) xyxy, or (T, 1, 4) for all levels.
        length: number of places per anchor of a location, from `most_locations`.

    Returns:
        box, prior, flat and exists, (length * anchors,) each.
    """
    grid, levels = grid_of(tuple(numbers), boxes.device), len(numbers) // 3
    low = (region[..., :2] / grid.stride - offset - SLACK).ceil().clamp(min=0)
    high = (region[..., 2:] / grid.stride - offset + SLACK).floor().minimum(grid.last)
    # (T, L, 2): first column and row, and their numbers; 0 for a NaN region of an infinite box
    low, side = low.long(), (high - low + 1).nan_to_num(0).clamp(min=0).long()
    # One value per box and level, (T * L,), so that few values are looked up for each pair.
    columns = side[..., 0].clamp(min=1).flatten()
    corner = (grid.first + low[..., 1] * grid.width + low[..., 0]).flatten()
    skipped = grid.width.expand(len(boxes), -1).flatten() - columns  # locations from row to row
    count = side.prod(-1).flatten()
    end = count.cumsum(0)
    slot = torch.arange(length, device=end.device)
    index = torch.searchsorted(end, slot, right=True)  # box * L + level
    exists = index < len(end)
    index = index.clamp(max=max(len(end) - 1, 0))
    begin, columns, corner, skipped = (  # index_select is 4 times as fast as x[index] on a CPU
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
    return box, prior, image_index.index_select(0, box) * priors + prior, exists


def _center_region(boxes: Tensor, strides: Tensor, radius: float) -> Tensor:
    """Cuts boxes (..., 4) to `radius` strides (...) around their centres; radius 0: no cut."""
    if not radius:
        return boxes
    half = (strides * radius)[..., None]
    low = torch.maximum(centers(boxes) - half, boxes[..., :2])
    return torch.cat((low, torch.minimum(centers(boxes) + half, boxes[..., 2:])), dim=-1)


def _within_reach(region: Tensor, boxes: Tensor, reach: Tensor) -> Tensor:
    """Cuts regions (..., 4) to where no side of the box is farther away than `reach` (...).

    The result's sides are at most `reach` long.
    """
    far = reach[..., None]
    # An infinite side minus an infinite reach is NaN, which means no limit.
    first = (boxes[..., 2:] - far).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    last = (boxes[..., :2] + far).nan_to_num(torch.inf, torch.inf, -torch.inf)
    return torch.cat(
        (torch.maximum(region[..., :2], first), torch.minimum(region[..., 2:], last)), dim=-1
    )


def most_locations(
    extent: Tensor, levels: list[int], radius: float, reach: list[float], margin: list[float]
) -> int:
    """Gives an upper bound of the number of locations in all regions, in whole vectors.

    A side of n strides holds at most n + 1 columns or rows.

    Args:
        extent: (T, 2) width and height of the boxes.
        reach: by level, the longest side that a region may have; []: no limit.
        margin: by level, the number of pixels by which a region may be wider or higher than its
            box; []: 0.
    """
    grid = grid_of(tuple(levels), extent.device)
    side = extent[:, None]
    if reach:  # the points with both sides at most `far` away span 2 * far - side
        far = constant(tuple(reach), side.device)[:, None]
        side = torch.fmin(side, 2 * far - side)
    if margin:
        side = side + constant(tuple(margin), side.device)[:, None]
    strides = side / grid.stride
    if radius:
        strides = strides.clamp(max=2 * radius)
    lines = ((strides + 3 * SLACK).floor() + 1).nan_to_num(0).clamp(min=0).minimum(grid.last + 1)
    most = max(int(lines.prod(-1).sum()), min(len(extent), 1))  # at least one place for any box
    return full_vectors(most)


def full_vectors(count: int) -> int:
    """Rounds a number of elements up to whole vectors, see `VECTOR`."""
    return -(-count // VECTOR) * VECTOR


def _fake_inside(
    boxes: Tensor,
    image_index: Tensor,
    points: Tensor,
    levels: list[int],
    offset: float,
    radius: float,
    reach: list[float],
    margin: float,
    length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slots = length * anchors_of(levels, len(points))
    box, prior, flat = (image_index.new_empty(slots) for _ in range(3))
    return box, prior, flat, image_index.new_empty(slots, dtype=torch.bool)


# This is an operator without a kernel, because torch.compile cannot compute the number.
MOST_LOCATIONS = define(
    "most_locations(Tensor extent, int[] levels, float radius, float[] reach, float[] margin)"
    " -> SymInt",
    most_locations,
    lambda *arguments: torch.library.get_ctx().new_dynamic_size(),
)
POINTS_INSIDE = define(
    "points_inside(Tensor boxes, Tensor image_index, Tensor points, int[] levels, float offset,"
    " float radius, float[] reach, float margin, SymInt length)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    points_inside,
    _fake_inside,
)
