"""Finds the priors near the centre of each box by arithmetic on the levels' lattices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, center_offsets, take
from dynamic_atss.assigners.reference.levels import level_numbers
from dynamic_atss.assigners.reference.nearest import LOCATIONS_AROUND, NEAREST_LOCATIONS
from dynamic_atss.boxes import centers
from dynamic_atss.types import GroundTruth, Level, Priors


def nearest_candidates(priors: Priors, gt: GroundTruth, topk: int) -> Pairs:
    """Gives the `topk` locations of each level nearest to each box's centre, with all anchors.

    Measures distances between centres. In a tie, takes the lower prior index. A level with fewer
    locations gives all of them.
    """
    location = nearest_locations(centers(gt.boxes), priors.levels, priors.offset, topk)
    return _pairs(priors, gt, location, torch.ones_like(location, dtype=torch.bool))


def surrounding_candidates(priors: Priors, gt: GroundTruth, topk: int) -> Pairs:
    """Gives locations around each box's centre that contain the `topk` best of each level.

    This holds for any score that does not increase with the distance from the centre along columns
    or rows. The pairs have all anchors and are sorted by prior on each level.
    """
    return _around_center(priors, gt, topk, square=False)


def square_candidates(priors: Priors, gt: GroundTruth, lines: int) -> Pairs:
    """Gives the locations in the `lines` nearest columns and rows around each box's centre.

    The pairs have all anchors and are sorted by prior on each level.
    """
    return _around_center(priors, gt, lines, square=True)


def near_center(priors: Priors, gt: GroundTruth, radius: float) -> Pairs:
    """Gives the priors less than `radius` strides from each box's centre in x and y, (T, K)."""
    most = max(max(level.height, level.width) for level in priors.levels)
    pairs = square_candidates(priors, gt, min(math.ceil(2 * radius), most))
    return pairs._replace(exists=pairs.exists & is_near(priors, gt, pairs, radius))


def is_near(priors: Priors, gt: GroundTruth, pairs: Pairs, radius: float) -> Tensor:
    """Returns True for priors less than `radius` strides from the box's centre in x and y."""
    away = center_offsets(priors, gt, pairs).abs().amax(0)
    return away < radius * take(priors.strides, pairs.prior)


def _around_center(priors: Priors, gt: GroundTruth, k: int, square: bool) -> Pairs:
    levels = level_numbers(priors.levels)
    return _pairs(
        priors, gt, *LOCATIONS_AROUND(centers(gt.boxes), levels, priors.offset, k, square)
    )


def _pairs(priors: Priors, gt: GroundTruth, location: Tensor, exists: Tensor) -> Pairs:
    """Pairs each box with all anchors of its locations (T, K)."""
    count, prior = priors.per_location, location
    if count > 1:
        anchor = torch.arange(count, device=location.device)
        prior = (location[..., None] * count + anchor).flatten(1)
        exists = exists.repeat_interleave(count, dim=1)
    box = torch.arange(len(gt), device=location.device)[:, None]
    return Pairs(box, prior, gt.image_index[:, None] * len(priors) + prior, exists)


def nearest_locations(points: Tensor, levels: tuple[Level, ...], offset: float, k: int) -> Tensor:
    """Gives the min(k, H * W) locations of each level nearest to points (T, 2), (T, K).

    They are sorted by level, then nearest first. Indices count the locations of all levels.
    """
    return NEAREST_LOCATIONS(points, level_numbers(levels), offset, k)
