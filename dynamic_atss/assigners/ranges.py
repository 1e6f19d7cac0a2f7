"""Priors inside a region of each box, as integer ranges of the levels' columns and rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.assigners.base import Pairs, inside
from dynamic_atss.boxes import centers
from dynamic_atss.types import GroundTruth, Level, Priors

SLACK = 1e-3  # strides by which a range is widened, so that rounding loses no prior


def priors_within(
    priors: Priors,
    gt: GroundTruth,
    region: Tensor,
    *,
    reach: Sequence[float] = (),
    margin: Sequence[float] = (),
) -> Pairs:
    """The pairs of every box with the priors whose location lies in its region, in one list (M,).

    By box, then by prior. The list is as long as the extents of the boxes allow, which the host
    knows without a wait for the device; what lies beyond the last pair has `exists` False. A
    location on the border of a region, or beyond it by rounding, may be in the list.

    Args:
        region: (T, L, 4) xyxy, or (T, 1, 4) for all levels.
        reach: by level, the longest side that a region may have; () = no limit.
        margin: by level, by how much a region may be wider or higher than its box; () = 0.
    """
    levels, grid = priors.levels, _grid(priors.levels, gt.boxes.device)
    low = (region[..., :2] / grid.stride - priors.offset - SLACK).ceil().clamp(min=0)
    high = (region[..., 2:] / grid.stride - priors.offset + SLACK).floor().minimum(grid.last)
    low, side = low.long(), (high - low + 1).clamp(min=0).long()  # (T, L, 2): columns, rows
    # Of every box on every level (T * L,), so that few values are looked up for each pair.
    columns = side[..., 0].clamp(min=1).flatten()
    corner = (grid.first + low[..., 1] * grid.width + low[..., 0]).flatten()
    skipped = grid.width.expand(len(gt), -1).flatten() - columns  # locations from row to row
    count = side.prod(-1).flatten()
    end = count.cumsum(0)
    slot = torch.arange(_most(gt, levels, reach, margin), device=end.device)
    index = torch.searchsorted(end, slot, right=True)  # which box on which level
    exists = index < len(end)
    index = index.clamp(max=max(len(end) - 1, 0))
    begin, columns, corner, skipped = (  # on a CPU, 4 times as fast as x[index]
        x.index_select(0, index) for x in (end - count, columns, corner, skipped)
    )
    rank = slot - begin
    location = corner + rank + rank // columns * skipped
    return _with_anchors(priors, gt, index // len(levels), location, exists)


def points_inside(
    priors: Priors,
    gt: GroundTruth,
    *,
    radius: float = 0.0,
    reach: Sequence[float] = (),
    margin: float = 0.0,
) -> Pairs:
    """The pairs of every box with the priors whose location lies inside it; others have `exists`
    False.

    Args:
        radius: of the region around the centre to which a box is cut, in strides; 0 = the whole.
        reach: by level, at least as far as the farthest side of the box may be; () = anywhere.
        margin: pixels by which a location must lie inside.
    """
    strides = _grid(priors.levels, gt.boxes.device).stride.squeeze(1)
    region = _center_region(gt.boxes[:, None], strides, radius)
    if reach:
        far = constant(tuple(reach), gt.boxes.device)
        region = _within_reach(region, gt.boxes[:, None], far)
    pairs = priors_within(priors, gt, region, reach=reach)
    strides = priors.strides.index_select(0, pairs.prior)
    region = _center_region(gt.boxes.index_select(0, pairs.box), strides, radius)
    within = inside(priors.centers.index_select(0, pairs.prior), region, margin)
    return pairs._replace(exists=pairs.exists & within)


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
    low = torch.maximum(region[..., :2], boxes[..., 2:] - far)
    return torch.cat((low, torch.minimum(region[..., 2:], boxes[..., :2] + far)), dim=-1)


def _with_anchors(
    priors: Priors, gt: GroundTruth, box: Tensor, location: Tensor, exists: Tensor
) -> Pairs:
    count = priors.per_location
    if count > 1:
        anchor = torch.arange(count, device=location.device)
        location = (location[:, None] * count + anchor).flatten()
        box, exists = box.repeat_interleave(count), exists.repeat_interleave(count)
    prior = torch.where(exists, location, 0)
    return Pairs(box, prior, gt.image.index_select(0, box) * len(priors) + prior, exists)


def _most(
    gt: GroundTruth, levels: tuple[Level, ...], reach: Sequence[float], margin: Sequence[float]
) -> int:
    """A bound on the number of locations in all regions: n strides hold n + 1 lines at most."""
    area, width, height = gt.extent
    total = 0.0
    for i, level in enumerate(levels):
        more = (margin[i] if margin else 0.0) / level.stride + 1 + 2 * SLACK
        both = area / level.stride**2 + (width + height) / level.stride * more
        bound = min(both + len(gt) * more**2, float(len(gt) * level.locations))
        if reach:
            line = reach[i] / level.stride + 1 + 2 * SLACK
            lines = [min(line, n) for n in (level.width, level.height)]
            bound = min(bound, len(gt) * math.prod(lines))
        total += bound
    return math.ceil(total)


class _Grid(NamedTuple):
    """Constants of the levels."""

    stride: Tensor  # (L, 1)
    last: Tensor  # (L, 2): the last column and row
    width: Tensor  # (L,)
    first: Tensor  # (L,): index of the level's first location


@lru_cache(maxsize=64)  # made once per feature size, since a copy to the device would wait for it
def _grid(levels: tuple[Level, ...], device: torch.device) -> _Grid:
    locations = torch.tensor([level.locations for level in levels])
    grid = (
        torch.tensor([[float(level.stride)] for level in levels]),
        torch.tensor([[level.width - 1.0, level.height - 1.0] for level in levels]),
        torch.tensor([level.width for level in levels]),
        locations.cumsum(0) - locations,
    )
    return _Grid(*(x.to(device) for x in grid))


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """`values` as a tensor that is made once for each device: to make it waits for the device."""
    return torch.tensor(values, device=device)
