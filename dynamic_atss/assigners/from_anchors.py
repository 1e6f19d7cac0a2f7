"""Measures the distances between boxes and anchors."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention, centers
from dynamic_atss.types import GroundTruth, Priors


def anchor_sides(priors: Priors, convention: BoxConvention) -> Tensor:
    """Gives width and height of the A anchors of a location on each level, (L, A, 2)."""
    first, found = 0, []
    for level in priors.levels:
        found.append(priors.boxes[first : first + priors.per_location])
        first += level.locations * priors.per_location
    anchors = torch.stack(found)
    return anchors[..., 2:] - anchors[..., :2] + convention.value


def box_size(gt: GroundTruth) -> Tensor:
    """Gives width and height of the boxes, (T, 2)."""
    return gt.boxes[:, 2:] - gt.boxes[:, :2] + gt.convention.value


def distances(priors: Priors, gt: GroundTruth) -> Tensor:
    """Sums |x of box - x of anchor| / (sum of the widths) over all pairs, and the same of y.

    Uses finite boxes only. The sum over the columns of a level has a closed form, so the work is
    per box and level.

    Returns:
        (3,) float64: the sum of x, the sum of y and the number of pairs.
    """
    finite = gt.boxes.isfinite().all(1)[:, None]
    center, side = (x.where(finite, 0).double() for x in (centers(gt.boxes), box_size(gt)))
    total = center.new_zeros(2)
    for level, anchors in zip(priors.levels, anchor_sides(priors, gt.convention), strict=True):
        lines = center.new_tensor([level.width, level.height])
        u = center / level.stride - priors.offset
        before = (u.floor() + 1).clamp(min=0).minimum(lines)  # columns and rows up to the centre
        away = u * (2 * before - lines) + lines * (lines - 1) / 2 - before * (before - 1)
        away = away * level.stride * lines.flip(0)  # for all locations of the level
        share = (away[:, None] / (side[:, None] + anchors)).sum(1)
        total += share.where(finite, 0).sum(0)
    return torch.cat((total, (finite.sum() * len(priors))[None]))
