"""How far boxes lie from the anchors of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention, centers
from dynamic_atss.types import GroundTruth, Priors


def anchor_sides(priors: Priors, convention: BoxConvention) -> Tensor:
    """(L, A, 2): widths and heights of the anchors of each level's locations."""
    first, found = 0, []
    for level in priors.levels:
        found.append(priors.boxes[first : first + priors.per_location])
        first += level.locations * priors.per_location
    anchors = torch.stack(found)
    return anchors[..., 2:] - anchors[..., :2] + convention.value


def box_size(gt: GroundTruth) -> Tensor:
    """(T, 2): widths and heights."""
    return gt.boxes[:, 2:] - gt.boxes[:, :2] + gt.convention.value


def distances(priors: Priors, gt: GroundTruth) -> Tensor:
    """(3,) float64: the sums of |x - x of anchor| / (sum of the widths) and of the same of y over
    all pairs of a finite box and an anchor, and the number of pairs; work is per box and level, as
    the sum over the lines of a level is known in closed form."""
    finite = gt.boxes.isfinite().all(1)[:, None]
    center, side = (x.where(finite, 0).double() for x in (centers(gt.boxes), box_size(gt)))
    total = center.new_zeros(2)
    for level, anchors in zip(priors.levels, anchor_sides(priors, gt.convention), strict=True):
        lines = center.new_tensor([level.width, level.height])
        u = center / level.stride - priors.offset
        before = (u.floor() + 1).clamp(min=0).minimum(lines)  # lines up to the centre
        away = u * (2 * before - lines) + lines * (lines - 1) / 2 - before * (before - 1)
        away = away * level.stride * lines.flip(0)  # of all locations of the level
        share = (away[:, None] / (side[:, None] + anchors)).sum(1)
        total += share.where(finite, 0).sum(0)
    return torch.cat((total, (finite.sum() * len(priors))[None]))
