"""How far boxes lie from the anchors of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.boxes import centers
from dynamic_atss.types import GroundTruth, Priors


def distances(priors: Priors, gt: GroundTruth) -> Tensor:
    """(3,) float64: the sums of |x - x of anchor| / (sum of the widths) and of the same of y over
    all pairs of a finite box and an anchor, and the number of pairs; work is per box and level, as
    the sum over the lines of a level is known in closed form."""
    boxes = gt.boxes.double()
    finite = boxes.isfinite().all(1)
    boxes = torch.where(finite[:, None], boxes, 0.0)
    side = boxes[:, 2:] - boxes[:, :2] + gt.convention.value
    total, first = boxes.new_zeros(2), 0
    for level in priors.levels:
        anchors = priors.boxes[first : first + priors.per_location].double()
        first += level.locations * priors.per_location
        lines = boxes.new_tensor([level.width, level.height])
        u = centers(boxes) / level.stride - priors.offset
        before = (u.floor() + 1).clamp(min=0).minimum(lines)  # lines up to the centre
        away = u * (2 * before - lines) + lines * (lines - 1) / 2 - before * (before - 1)
        away = away * level.stride * lines.flip(0)  # of all locations of the level
        sides = side[:, None] + (anchors[:, 2:] - anchors[:, :2] + gt.convention.value)
        total += torch.where(finite[:, None], (away[:, None] / sides).sum(1), 0.0).sum(0)
    return torch.cat((total, (finite.sum() * len(priors))[None]))
