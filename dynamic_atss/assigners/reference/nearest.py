"""Finds locations near a point by arithmetic on the levels' lattices."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.assigners.reference.levels import levels_of
from dynamic_atss.ops.library import define


def nearest_locations(points: Tensor, levels: list[int], offset: float, k: int) -> Tensor:
    """Gives the k locations of each level nearest to each point, nearest first, (T, K).

    Consider the location in the a-th nearest column and the b-th nearest row, counted from 0. The
    locations in the columns and rows up to these are at least as near, and there are
    (a + 1)(b + 1) - 1 others. So the k nearest locations have (a + 1)(b + 1) <= k. For k = 9 there
    are 23 of them. This also holds at borders and on maps of one row.
    """
    lattice = _lattice(tuple(levels), offset, k, points.device)
    distance, index = _around(points, lattice)
    # Non-negative floats sort like their bits, so an integer can hold the distance and then the
    # index for ties.
    key = distance.view(torch.int32).long() << 32 | index.long()
    nearest = (key.topk(k, dim=0, largest=False).values & 0xFFFFFFFF) + lattice.first
    return nearest.permute(2, 1, 0).flatten(1)[:, lattice.exists].contiguous()


def locations_around(
    points: Tensor, levels: list[int], offset: float, k: int, square: bool
) -> tuple[Tensor, Tensor]:
    """Gives the locations around each point, sorted by index on each level, (T, K).

    Returns:
        the locations, and flags of those that exist, (T, K) each.
    """
    lattice = _lattice(tuple(levels), offset, k, points.device, square)
    distance, index = _around(points, lattice)
    exists = distance.isfinite()
    order = torch.where(exists, index, torch.inf).argsort(dim=0)
    location = (index.gather(0, order).long() + lattice.first).permute(2, 1, 0).flatten(1)
    exists = exists.gather(0, order).permute(2, 1, 0).flatten(1).contiguous()
    return torch.where(exists, location, 0).contiguous(), exists


def _around(points: Tensor, lattice: _Lattice) -> tuple[Tensor, Tensor]:
    """Gives the M locations around each point on each level.

    Returns:
        the squared distances, inf for a missing location, and the indices in the level, (M, L, T)
        each.
    """
    x = points.t()[:, None, None]  # (2, 1, 1, T): long rows of boxes are fastest
    lines = _nearest_lines(x / lattice.stride, lattice)
    distance = ((lines + lattice.offset) * lattice.stride - x).square()
    both = torch.stack((distance, lines * lattice.step), dim=2)
    distance, index = (
        both[0].index_select(0, lattice.column) + both[1].index_select(0, lattice.row)
    ).unbind(1)
    return distance + lattice.missing, index


def _nearest_lines(u: Tensor, lattice: _Lattice) -> Tensor:
    """Gives the k columns and rows nearest to u (2, 1, L, T) strides, nearest first, (2, k, L, T).

    In a tie, the lower one comes first. The n nearest lines are neighbours. They form a window that
    starts at ceil(u - offset - n / 2), moved into the map. The window of n lines has one line more
    than that of n - 1. This line is the n-th nearest one. It is the first or the last of its
    window.
    """
    low = (u - lattice.shift).ceil().clamp(min=0).minimum(lattice.limit)
    before, low = low[:, :-1], low[:, 1:]
    return torch.where(low < before, low, low + lattice.rank)


def _ranks(k: int, square: bool) -> list[tuple[int, int]]:
    """Lists the ranks of column and row of the candidate locations."""
    return [(a, b) for a in range(k) for b in range(k if square else k // (a + 1))]


class _Lattice(NamedTuple):
    """Holds constants of the search for both axes (x, y), L levels, and M pairs of ranks.

    A last dimension of 1 stands for the boxes.
    """

    offset: float
    stride: Tensor  # (L, 1)
    shift: Tensor  # (k + 1, 1, 1): offset + n / 2 of windows of n = 0..k lines
    limit: Tensor  # (2, k + 1, L, 1): the last line at which such a window may begin
    rank: Tensor  # (k, 1, 1): 0..k-1
    step: Tensor  # (2, 1, L, 1): difference of indices, 1 for columns, the width for rows
    column: Tensor  # (M,): rank a
    row: Tensor  # (M,): rank b
    missing: Tensor  # (M, L, 1): inf where the level has no such column or row, else 0
    first: Tensor  # (L, 1): index of the level's first location
    exists: Tensor | slice  # which of the L * k results there are


@lru_cache(maxsize=64)
def _lattice(
    numbers: tuple[int, ...], offset: float, k: int, device: torch.device, square: bool = False
) -> _Lattice:
    """Makes the constants for the k nearest lines.

    Args:
        square: True uses all crossings of the lines, False only those for `nearest_locations`.
    """
    levels = levels_of(numbers)
    count = torch.tensor([[x.width, x.height] for x in levels]).t()[..., None]  # (2, L, 1)
    locations = torch.tensor([x.locations for x in levels])[:, None]
    windows = torch.arange(k + 1)[:, None, None]
    pairs = _ranks(k, square)
    column, row = torch.tensor(pairs).unbind(1)
    missing = (column[:, None, None] >= count[0]) | (row[:, None, None] >= count[1])
    exists = (torch.arange(k) < locations).flatten()
    lattice = _Lattice(
        offset=offset,
        stride=torch.tensor([float(x.stride) for x in levels])[:, None],
        shift=offset + windows / 2,
        limit=(count[:, None] - windows).clamp(min=0).float(),
        rank=windows[:-1].float(),
        step=torch.stack((torch.ones(len(levels), 1), count[0].float()))[:, None],
        column=column,
        row=row,
        missing=torch.where(missing, torch.inf, 0.0),
        first=locations.cumsum(0) - locations,
        exists=slice(None) if exists.all() else exists.nonzero().squeeze(1),
    )
    moved: list[Any] = [x.to(device) if isinstance(x, Tensor) else x for x in lattice]
    return _Lattice(*moved)


def _fake_nearest(points: Tensor, levels: list[int], offset: float, k: int) -> Tensor:
    count = sum(min(k, level.locations) for level in levels_of(levels))
    return points.new_empty(len(points), count, dtype=torch.int64)


def _fake_around(
    points: Tensor, levels: list[int], offset: float, k: int, square: bool
) -> tuple[Tensor, Tensor]:
    location = points.new_empty(
        len(points), len(levels) // 3 * len(_ranks(k, square)), dtype=torch.int64
    )
    return location, location.new_empty(location.shape, dtype=torch.bool)


NEAREST_LOCATIONS = define(
    "nearest_locations(Tensor points, int[] levels, float offset, int k) -> Tensor",
    nearest_locations,
    _fake_nearest,
)
LOCATIONS_AROUND = define(
    "locations_around(Tensor points, int[] levels, float offset, int k, bool square)"
    " -> (Tensor, Tensor)",
    locations_around,
    _fake_around,
)
