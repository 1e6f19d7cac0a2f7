"""The assigner protocol, and the helpers that rules are made of.

A rule is four steps: propose (which (prior, gt) pairs are worth a look) -> score (a number for
each pair) -> select (per gt: a threshold or a top-k) -> resolve (per prior: the best pair wins; a
tie goes to the lower gt index). Work is per pair: K candidates of each of T boxes, never P x T.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, NamedTuple, Protocol

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

    soft_labels: ClassVar[bool]
    quality_name: ClassVar[str]

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
    points = centers(gt.boxes)
    prior, first = [], 0
    for level in priors.levels:
        location = nearest_locations(points, level, priors.offset, topk)
        anchors = torch.arange(priors.per_location, device=location.device)
        prior.append((first + location * priors.per_location)[..., None].add(anchors).flatten(1))
        first += level.locations * priors.per_location
    candidates = torch.cat(prior, dim=1)
    return Pairs(candidates, gt.image[:, None] * len(priors) + candidates)


def nearest_locations(points: Tensor, level: Level, offset: float, k: int) -> Tensor:
    """(T, min(k, h * w)) indices, row * width + column, of the level's locations nearest to points
    (T, 2).

    By arithmetic instead of by search: sort the k nearest columns by distance, and the k nearest
    rows. A location in the a-th column and the b-th row (from 0) has (a + 1)(b + 1) - 1 locations
    at least as near before it, those of the columns and rows up to its own; so the k nearest are
    among the locations with (a + 1)(b + 1) <= k: 23 of them for k = 9, at borders and on maps of
    one row as well.
    """
    columns, dx = _nearest_lines(points[:, 0], level.width, level.stride, offset, k)
    rows, dy = _nearest_lines(points[:, 1], level.height, level.stride, offset, k)
    a, b = _ranks(columns.shape[1], rows.shape[1], k, points.device)
    index, order = (rows[:, b] * level.width + columns[:, a]).sort(
        dim=1
    )  # so that ties go to the lower
    distance = (dx[:, a].square() + dy[:, b].square()).gather(1, order)
    nearest = distance.sort(dim=1, stable=True).indices[:, : min(k, level.locations)]
    return index.gather(1, nearest)


def _nearest_lines(
    x: Tensor, count: int, stride: int, offset: float, k: int
) -> tuple[Tensor, Tensor]:
    """The k nearest of `count` lines at (i + offset) * stride to x (T,), nearest first, and their
    distances in pixels; both (T, min(k, count))."""
    k = min(k, count)
    # One line more than needed: x lies between two lines, and the nearest k may lean to either
    # side.
    width = min(k + 1, count)
    first = torch.floor(x / stride - offset) - k // 2
    first = first.clamp(0, count - width).long()
    lines = first[:, None] + torch.arange(width, device=x.device)
    distance = ((lines + offset) * stride - x[:, None]).abs()
    distance, order = distance.sort(dim=1, stable=True)
    return lines.gather(1, order)[:, :k], distance[:, :k]


@lru_cache(
    maxsize=64
)  # a few per feature size; made once, since a copy to the device would wait for it
def _ranks(columns: int, rows: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pairs of a column rank and a row rank with (a + 1)(b + 1) <= k."""
    pairs = [(a, b) for a in range(columns) for b in range(min(rows, k // (a + 1)))]
    a, b = torch.tensor(pairs, device=device).unbind(1)
    return a, b


def inside(priors: Priors, gt: GroundTruth, pairs: Pairs, margin: float = 0.01) -> Tensor:
    """(T, K) bool: the prior's centre lies more than `margin` pixels inside the box."""
    return sides(priors.centers[pairs.prior], gt.boxes[:, None]).amin(-1) > margin


def resolve(
    pairs: Pairs, selected: Tensor, score: Tensor, quality: Tensor, shape: tuple[int, int]
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
    # Pairs that are out write to a slot of their own at the end: no boolean indexing, no wait for
    # the device.
    flat = torch.where(selected, pairs.flat, slots).flatten()
    score = score.flatten()
    best = score.new_full((slots + 1,), -torch.inf).scatter_reduce_(0, flat, score, "amax")
    flat = torch.where(score >= best[flat], flat, slots)
    nobody = len(pairs.flat)
    gt = torch.arange(nobody, device=flat.device)[:, None].expand_as(selected).flatten()
    index = gt.new_full((slots + 1,), nobody).scatter_reduce_(0, flat, gt, "amin")
    flat = torch.where(gt == index[flat], flat, slots)
    values = quality.new_zeros(slots + 1).scatter_(0, flat, quality.flatten())
    index = torch.where(index == nobody, BACKGROUND, index)
    return Assignment(index[:slots].view(shape), values[:slots].view(shape))


def std(x: Tensor) -> Tensor:
    """Unbiased standard deviation of each row of x (T, K): (T, 1); 0, not NaN, where K is 1."""
    if x.shape[1] == 1:
        return torch.zeros_like(x)
    return x.std(dim=1, keepdim=True)
