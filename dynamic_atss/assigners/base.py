"""The assigner protocol, and the helpers that rules are made of.

A rule is four steps: propose (which (prior, gt) pairs are worth a look) -> score (a number for
each pair) -> select (per gt: a threshold or a top-k) -> resolve (per prior: the best pair wins; a
tie goes to the lower gt index). Work is per pair: K candidates of each of T boxes, never P x T.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dynamic_atss.boxes import centers, sides
from dynamic_atss.types import BACKGROUND, Assignment, GroundTruth, Level, Predictions, Priors


class Assigner(Protocol):
    """One call for the whole batch, without gradient, randomness, collectives or waits for the
    device.

    soft_labels: the quality is also the class target (quality focal loss) rather than 1 (focal
    loss)
    quality_name: what the quality is; names the third loss term in the log, as the releases do
    """

    soft_labels: bool
    quality_name: str

    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """gt: T boxes of N images; T = 0 is an ordinary case."""


class Pairs(NamedTuple):
    """K candidate priors of each box: prior (T, K) in 0..P-1; flat (T, K) = image * P + prior."""

    prior: Tensor
    flat: Tensor


def nearest_candidates(priors: Priors, gt: GroundTruth, topk: int) -> Pairs:
    """The `topk` locations of each level nearest to each box's centre, with all their anchors.

    Fewer on a level that has fewer. Nearness is between centres; a tie goes to the lower prior
    index.
    """
    location = nearest_locations(centers(gt.boxes), priors.levels, priors.offset, topk)
    anchors = torch.arange(priors.per_location, device=location.device)
    prior = (location[..., None] * priors.per_location + anchors).flatten(1)
    return Pairs(prior, gt.image[:, None] * len(priors) + prior)


def nearest_locations(points: Tensor, levels: tuple[Level, ...], offset: float, k: int) -> Tensor:
    """The min(k, h * w) locations of each level nearest to points (T, 2): (T, K), level after
    level, each level nearest first; indices count the locations of all levels.

    By arithmetic instead of by search: a location in the a-th nearest column and the b-th nearest
    row (from 0) has (a + 1)(b + 1) - 1 locations at least as near before it, those of the columns
    and rows up to its own; so the k nearest are among the locations with (a + 1)(b + 1) <= k: 23
    of them for k = 9, at borders and on maps of one row as well.
    """
    lattice = _lattice(levels, offset, k, points.device)
    x = points.t()[:, None, None]  # (2, 1, 1, T): boxes last, in long rows, which is fastest
    lines = _nearest_lines(x / lattice.stride, lattice)
    distance = ((lines + offset) * lattice.stride - x).square()
    both = torch.stack((distance, lines * lattice.step), dim=2)
    distance, index = (
        both[0].index_select(0, lattice.column) + both[1].index_select(0, lattice.row)
    ).unbind(1)  # (M, L, T)
    # Floats that are not negative sort as their bits do, so one integer holds the distance and,
    # for ties, the index.
    key = (distance + lattice.missing).view(torch.int32).long() << 32 | index.long()
    nearest = (key.topk(k, dim=0, largest=False).values & 0xFFFFFFFF) + lattice.first
    return nearest.permute(2, 1, 0).flatten(1)[:, lattice.exists]


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


class _Lattice(NamedTuple):
    """Constants of the search, for both axes (x, y), L levels, and M pairs of a column's rank and a
    row's rank; a last dimension of 1 is for the boxes."""

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


@lru_cache(maxsize=64)  # made once per feature size, since a copy to the device would wait for it
def _lattice(levels: tuple[Level, ...], offset: float, k: int, device: torch.device) -> _Lattice:
    count = torch.tensor([[x.width, x.height] for x in levels]).t()[..., None]  # (2, L, 1)
    locations = torch.tensor([x.locations for x in levels])[:, None]
    windows = torch.arange(k + 1)[:, None, None]
    column, row = torch.tensor([(a, b) for a in range(k) for b in range(k // (a + 1))]).unbind(1)
    missing = (column[:, None, None] >= count[0]) | (row[:, None, None] >= count[1])
    exists = (torch.arange(k) < locations).flatten()
    lattice = _Lattice(
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


def inside(points: Tensor, boxes: Tensor, margin: float = 0.01) -> Tensor:
    """(...) bool: points (..., 2) lie more than `margin` pixels inside boxes (..., 4)."""
    return sides(points, boxes).amin(-1) > margin


def resolve(
    pairs: Pairs, selected: Tensor, score: Tensor, quality: Tensor, shape: tuple[int, ...]
) -> Assignment:
    """One box per prior: of the `selected` pairs the one with the largest score, then the lowest
    gt index.

    Args:
        pairs: (T, K).
        selected: (T, K) bool.
        score: (T, K).
        quality: (T, K), becomes the quality of the priors whose pair wins.
        shape: (N, P).
    """
    slots = shape[0] * shape[1]
    gt = torch.arange(len(pairs.flat), device=pairs.flat.device)[:, None]
    gt, score = gt.expand_as(selected).flatten(), score.flatten()
    # Pairs that are out write to a slot of their own at the end: no boolean indexing, no wait for
    # the device.
    flat = torch.where(selected, pairs.flat, slots).flatten()
    best = score.new_full((slots + 1,), -torch.inf).scatter_reduce_(0, flat, score, "amax")
    flat = torch.where(score >= best[flat], flat, slots)
    lowest = gt.new_full((slots + 1,), len(pairs.flat)).scatter_reduce_(0, flat, gt, "amin")
    flat = torch.where(gt == lowest[flat], flat, slots)
    index = lowest.fill_(BACKGROUND).scatter_(0, flat, gt)[:slots]
    quality = quality.new_zeros(slots + 1).scatter_(0, flat, quality.flatten())[:slots]
    return Assignment(index.view(shape), quality.view(shape))


def std(x: Tensor) -> Tensor:
    """Unbiased standard deviation of each row of x (..., K): (..., 1); 0, not NaN, where K is 1."""
    if x.shape[-1] == 1 or not x.numel():  # torch warns of either
        return torch.zeros_like(x[..., :1])
    return x.std(dim=-1, keepdim=True)
