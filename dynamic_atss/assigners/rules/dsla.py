"""Defines DSLA, whose smooth labels fall with the distance from a box's centre and between levels.

Su et al., Pattern Recognition 2022, arXiv 2208.00817. The loss multiplies a label by the IoU of the
prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import Pairs, box_sides, note, resolve
from dynamic_atss.assigners.ranges import constant, points_inside
from dynamic_atss.boxes import centers
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

FINITE = 1e8  # the end of the last range, as published


class DSLA:
    """Assigns each prior the box with the largest quality.

    Quality = centerness x fit of the level.

    Args:
        relaxation: share by which a level's range of sizes is widened. The fit falls to 0 at the
            ends of the widened range. 0: hard ranges.
        core_zone: True sets the centerness of points within half a stride of the centre to 1.
        radius: of the centre region in strides; 0: the entire box.
        limits: borders between the levels, of a point's largest distance to a side of its box, in
            pixels.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = True
    quality_name = "score"
    needs_size = False

    def __init__(
        self,
        relaxation: float = 0.2,
        core_zone: bool = True,
        radius: float = 0.0,
        limits: Sequence[float] = (64, 128, 256, 512),
    ) -> None:
        check.at_least(0, radius=radius, relaxation=relaxation)
        check.increasing(limits=limits)
        if relaxation >= 1:
            raise ValueError(f"relaxation is {relaxation}; it must be below 1")
        self.core_zone = core_zone
        self.radius = radius
        self.low, self.high = (0.0, *limits), (*limits, FINITE)
        # Truncates the widened ends to integers as the release does.
        self.lowest = tuple(float(int(x * (1 - relaxation))) for x in self.low)
        self.highest = tuple(float(int(x * (1 + relaxation))) for x in self.high)

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        # A truncated end may be below the limit.
        reach = tuple(map(max, self.high, self.highest))[: len(priors.levels)]
        pairs = points_inside(priors, gt, radius=self.radius, reach=reach)
        # score
        distances = box_sides(priors, gt, pairs)
        score = self._centerness(distances)
        if self.core_zone:
            score = torch.where(_in_core_zone(priors, gt, pairs), 1.0, score)
        level = priors.level.index_select(0, pairs.prior)
        score = score * self._fit(distances.amax(0), level)
        # select
        selected = (score > 0) & pairs.exists
        note(score="centerness x fit of the level", above_0=selected)
        # resolve
        return resolve(pairs, selected, score, score, predictions.boxes.shape[:2])

    def _centerness(self, distances: Tensor) -> Tensor:
        """Gives the centerness of points inside their boxes, (M,)."""
        left, top, right, bottom = distances.clamp(min=0)
        score = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=0.01)
        score = score * (torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=0.01))
        return score.sqrt()

    def _fit(self, size: Tensor, level: Tensor) -> Tensor:
        """Gives 1 in the level's range, falling linearly to 0 at the widened ends, (M,)."""
        ends = (self.lowest, self.low, self.high, self.highest)
        lowest, low, high, highest = (constant(x, size.device).index_select(0, level) for x in ends)
        below = (size - lowest) / (low - lowest).clamp(min=0.01)
        above = (highest - size) / (highest - high).clamp(min=0.01)
        fit = torch.where(size < low, below, torch.where(size > high, above, 1.0))
        return fit.clamp(min=0)


def _in_core_zone(priors: Priors, gt: GroundTruth, pairs: Pairs) -> Tensor:
    """Returns True for points within half a stride of the box's centre in x and y, (M,)."""
    half = priors.strides.index_select(0, pairs.prior)[:, None] / 2
    center = centers(gt.boxes).index_select(0, pairs.box)
    points = priors.centers.index_select(0, pairs.prior)
    return ((points >= center - half) & (points <= center + half)).all(-1)
