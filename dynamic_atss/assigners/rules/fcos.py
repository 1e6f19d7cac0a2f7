"""Defines FCOS, which selects the points inside a box on the level that fits the box's size.

Tian et al., ICCV 2019, arXiv 1904.01355; centre sampling as in arXiv 2006.09214.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import box_sides, centerness, note, resolve
from dynamic_atss.assigners.ranges import constant, points_inside
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class FCOS:
    """Assigns each point the smallest of the boxes that it lies in and whose size fits its level.

    Quality = centerness of the point in its box.

    Args:
        radius: of the centre region in strides; 0: the entire box.
        limits: borders between the levels, of a point's largest distance to a side of its box, in
            pixels.
        margin: pixels by which a point must lie inside.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = False

    def __init__(
        self,
        radius: float = 0.0,
        limits: Sequence[float] = (64, 128, 256, 512),
        margin: float = 0.0,
    ) -> None:
        check.at_least(0, radius=radius, margin=margin)
        check.increasing(limits=limits)
        self.radius = radius
        self.low, self.high = (-1.0, *limits), (*limits, torch.inf)
        self.margin = margin

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        levels = len(priors.levels)
        low, high = self.low[:levels], self.high[:levels]
        pairs = points_inside(priors, gt, radius=self.radius, reach=high, margin=self.margin)
        # score
        farthest = box_sides(priors, gt, pairs).amax(0)
        size = gt.convention.area(gt.boxes).index_select(0, pairs.box)
        # select
        device, level = farthest.device, priors.level.index_select(0, pairs.prior)
        selected = (farthest >= constant(low, device).index_select(0, level)) & pairs.exists
        selected &= farthest <= constant(high, device).index_select(0, level)
        note(score="-area", farthest_side=farthest, fits_level=selected)
        # resolve
        shape = predictions.boxes.shape[:2]
        return resolve(pairs, selected, -size, centerness(priors, gt, pairs), shape)
