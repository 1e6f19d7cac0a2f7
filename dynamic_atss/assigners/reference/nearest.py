"""Locations near a point, by arithmetic on the levels' lattices instead of by search."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.assigners.reference.levels import levels_of
from dynamic_atss.ops.library import define


def nearest_locations(points: Tensor, levels: list[int], offset: float, k: int) -> Tensor:
    """The k locations (T, K) of each level nearest to each point, nearest first.

    A location in the a-th nearest column and the b-th nearest row (from 0) has (a + 1)(b + 1) - 1
    locations at least as near before it, those of the columns and rows up to its own; so the k
    nearest are among the locations with (a + 1)(b + 1) <= k: 23 of them for k = 9, at borders and
    on maps of one row as well.
    """
    lattice = _lattice(tuple(levels), offset, k, points.device)
    distance, index = _around(points, lattice)
    # Floats that are not negative sort as their bits do, so one integer holds the distance and,
    # for ties, the index.
    key = distance.view(torch.int32).long() << 32 | index.long()
    nearest = (key.topk(k, dim=0, largest=False).values & 0xFFFFFFFF) + lattice.first
    return nearest.permute(2, 1, 0).flatten(1)[:, lattice.exists].contiguous()


def locations_around(
    points: Tensor, levels: list[int], offset: float, k: int, square: bool
) -> tuple[Tensor, Tensor]:
    """The locations (T, K) around each point, by index for each level, and which of them exist."""
    lattice = _lattice(tuple(levels), offset, k, points.device, square)
    distance, index = _around(points, lattice)
    exists = distance.isfinite()
    order = torch.where(exists, index, torch.inf).argsort(dim=0)
    location = (index.gather(0, order).long() + lattice.first).permute(2, 1, 0).flatten(1)
    exists = exists.gather(0, order).permute(2, 1, 0).flatten(1).contiguous()
    return torch.where(exists, location, 0).contiguous(), exists


def _around(points: Tensor, lattice: _Lattice) -> tuple[Tensor, Tensor]:
    """Squared distance, inf where there is none, and index in its level of the M locations around
    each point: each (M, L, T)."""
    x = points.t()[:, None, None]  # (2, 1, 1, T): boxes last, in long rows, which is fastest
    lines = _nearest_lines(x / lattice.stride, lattice)
    distance = ((lines + lattice.offset) * lattice.stride - x).square()
    both = torch.stack((distance, lines * lattice.step), dim=2)
    distance, index = (
        both[0].index_select(0, lattice.column) + both[1].index_select(0, lattice.row)
    ).unbind(1)
    return distance + lattice.missing, index


def _nearest_lines(u: Tensor, lattice: _Lattice) -> Tensor:
    """The k lines (2, k, L, T) nearest to u (2, 1, L, T) strides, nearest first, the lower first in
    a tie.

    The n nearest lines are neighbours, a window that begins at ceil(u - offset - n / 2), moved into
    the map. The n-th nearest is the line by which the window of n exceeds that of n - 1: its first
    or its last.
    """
    low = (u - lattice.shift).ceil().clamp(min=0).minimum(lattice.limit)
    before, low = low[:, :-1], low[:, 1:]
    return torch.where(low < before, low, low + lattice.rank)


def _ranks(k: int, square: bool) -> list[tuple[int, int]]:
    """Of a column and a row, of the locations that are looked at."""
    return [(a, b) for a in range(k) for b in range(k if square else k // (a + 1))]


class _Lattice(NamedTuple):
    """Constants of the search, for both axes (x, y), L levels, and M pairs of a column's rank and a
    row's rank; a last dimension of 1 is for the boxes."""

    offset: float
    stride: Tensor  # (L, 1)
    shift: Tensor  # (k + 1, 1, 1): offset + n / 2 of windows of n = 0..k lines
    limit: Tensor  # (2, k + 1, L, 1): the last line at which such a window may begin
    rank: Tensor  # (k, 1, 1): 0..k-1
    step: Tensor  # (2, 1, L, 1): from line to index: 1 for columns, the width for rows
    column: Tensor  # (M,): rank a
    row: Tensor  # (M,): rank b
    missing: Tensor  # (M, L, 1): inf where the level has no such column or row, else 0
    first: Tensor  # (L, 1): index of the level's first location
    exists: Tensor | slice  # which of the L * k results there are


@lru_cache(maxsize=64)
def _lattice(
    numbers: tuple[int, ...], offset: float, k: int, device: torch.device, square: bool = False
) -> _Lattice:
    """For the k nearest lines: those of their crossings that `nearest_locations` needs, or all."""
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
