"""Ignores background in regions without annotations, after any rule."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.assigners.pairs import has_pair
from dynamic_atss.assigners.ranges import priors_within
from dynamic_atss.assigners.wrapper import RuleWrapper
from dynamic_atss.types import BACKGROUND, IGNORE, Assignment, GroundTruth, Predictions, Priors

SHARE = 0.5  # of a prior's box that a region must cover


class IgnoreRegions(RuleWrapper):
    """Labels background as IGNORE if a region covers half of the prior's box or more.

    Regions are the boxes that `GroundTruth.ignore` marks. The rule gets only the other boxes, and
    its positives stay positive in a region. The box of a point is the square of one stride around
    it. A region smaller than half of a level's anchors or strides changes nothing on that level.

    The location of a covered prior always lies in the region, so only pairs of a region and a
    location in it are tested. This requires that priors are centred on their locations.

    Args:
        rule: any assigner, also `AtLeastOne`.
    """

    sees_regions = True

    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """Assigns the priors as any rule does. gt may have regions."""
        found = call_rule(self.rule, priors, gt.objects, predictions)
        if gt.object_count == len(gt):
            return found
        index = found.gt_index
        covered = _covered(priors, gt.regions, len(index))
        index = torch.where(covered & (index == BACKGROUND), IGNORE, index)
        return replace(found, gt_index=index)


def _covered(priors: Priors, regions: GroundTruth, images: int) -> Tensor:
    """Flags the priors that a region covers by SHARE or more, (N, P)."""
    # If half of a side is covered, its middle lies in the region. In the LEGACY convention,
    # sides of priors and regions end half a pixel farther out.
    wider = torch.cat((regions.boxes[:, :2] - 0.5, regions.boxes[:, 2:] + 0.5), dim=1)
    margin = [1.0] * len(priors.levels)
    pairs = priors_within(priors, regions, wider[:, None], margin=margin)
    boxes = priors.boxes.index_select(0, pairs.prior)
    shared = regions.convention.intersection(boxes, regions.boxes.index_select(0, pairs.box))
    hit = shared >= SHARE * regions.convention.area(boxes)
    return has_pair(pairs, hit, (images, len(priors)))
