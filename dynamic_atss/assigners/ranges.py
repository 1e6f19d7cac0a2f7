"""Finds the priors inside a region of each box by integer ranges of columns and rows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.assigners.reference.inside import MOST_LOCATIONS, POINTS_INSIDE, list_locations
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
    """Pairs every box with the priors whose location lies inside it. Other pairs do not exist.

    Args:
        radius: strides around the centre to which a box is cut; 0: the entire box.
        reach: by level, an upper limit of the distance to the farthest side of the box; (): none.
        margin: pixels by which a location must lie inside.
    """
    numbers, offset = level_numbers(priors.levels), priors.offset
    length = MOST_LOCATIONS(gt.extent, numbers, radius, reach, ())
    return Pairs(
        *POINTS_INSIDE(
            gt.boxes, gt.image_index, priors.centers, numbers, offset, radius, reach, margin, length
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
    """Pairs every box with the priors whose location lies in its region, in one list (M,).

    The length of the list follows from the extents of the boxes, which are known without waiting
    for the device. Places after the last pair have `exists` False. Locations on the border of a
    region, or outside by rounding, may be in the list.

    Args:
        region: (T, L, 4) xyxy, or (T, 1, 4) for all levels.
        margin: by level, the number of pixels by which a region may be wider or higher than its
            box; (): 0.
        scale: factor of the box's extent, before the margin is added.
        extent: (T, L, 2) float64 on the CPU, the extents of the regions. If given, scale and
            margin are not used.
    """
    numbers = level_numbers(priors.levels)
    if extent is None:
        length = MOST_LOCATIONS(gt.extent * scale, numbers, 0.0, (), margin)
    else:
        levels = zip(extent.unbind(1), _by_level(numbers), strict=True)
        length = sum(MOST_LOCATIONS(side, level, 0.0, (), ()) for side, level in levels)
    lattice = numbers, priors.offset, priors.per_location
    return Pairs(*list_locations(gt.boxes, gt.image_index, region, *lattice, length))


def _by_level(numbers: list[int]) -> list[list[int]]:
    return [numbers[i : i + 3] for i in range(0, len(numbers), 3)]
