"""Priors inside a region of each box, as integer ranges of the levels' columns and rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.assigners.reference.inside import (
    MOST_LOCATIONS,
    POINTS_INSIDE,
    list_locations,
)
from dynamic_atss.assigners.reference.levels import constant, level_numbers
from dynamic_atss.types import GroundTruth, Priors

__all__ = ["constant", "points_inside", "priors_within"]


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
    numbers, offset = level_numbers(priors.levels), priors.offset
    length = MOST_LOCATIONS(gt.extent, numbers, radius, reach, ())
    return Pairs(
        *POINTS_INSIDE(
            gt.boxes, gt.image, priors.centers, numbers, offset, radius, reach, margin, length
        )
    )


def priors_within(
    priors: Priors,
    gt: GroundTruth,
    region: Tensor,
    *,
    margin: Sequence[float] = (),
    scale: float = 1.0,
    extent: Tensor | None = None,
) -> Pairs:
    """The pairs of every box with the priors whose location lies in its region, in one list (M,).

    The list is as long as the extents of the boxes allow, which the host knows without a wait for
    the device; what lies beyond the last pair has `exists` False. A location on the border of a
    region, or beyond it by rounding, may be in the list.

    Args:
        region: (T, L, 4) xyxy, or (T, 1, 4) for all levels.
        margin: by level, by how much a region may be wider or higher than its box; () = 0.
        scale: of the box, before the margin is added.
        extent: (T, L, 2) float64 on the host: the extents of the regions, where they are known
            there; then scale and margin are not read.
    """
    numbers = level_numbers(priors.levels)
    if extent is None:
        length = MOST_LOCATIONS(gt.extent * scale, numbers, 0.0, (), margin)
    else:
        levels = zip(extent.unbind(1), _by_level(numbers), strict=True)
        length = sum(MOST_LOCATIONS(side, level, 0.0, (), ()) for side, level in levels)
    lattice = numbers, priors.offset, priors.per_location
    return Pairs(*list_locations(gt.boxes, gt.image, region, *lattice, length))


def _by_level(numbers: list[int]) -> list[list[int]]:
    return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]
