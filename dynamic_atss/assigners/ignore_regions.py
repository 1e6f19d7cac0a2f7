"""Background in regions that nobody has annotated is not learnt, around any rule."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dynamic_atss.assigners.answer import answer
from dynamic_atss.assigners.around import Around
from dynamic_atss.assigners.pairs import has_pair
from dynamic_atss.assigners.ranges import priors_within
from dynamic_atss.types import BACKGROUND, IGNORE, Assignment, GroundTruth, Predictions, Priors

SHARE = 0.5  # of a prior's own box, from which on it lies mostly in a region


class IgnoreRegions(Around):
    """After `rule`, background that lies mostly in a region of its image is IGNORE.

    Regions are the boxes that `GroundTruth.ignore` marks; the rule sees the others alone, and its
    positives stay, also in a region. A prior lies mostly in a region if the region covers half of
    its own box or more, as the boxes are meant: of an anchor its box, of a point the square of one
    stride around it, which is the part of the image that it stands for. So a region that is smaller
    than half of a level's anchors or strides changes nothing there.

    Such a prior's location lies in the region, so the work is per pair of a region and a location
    in it: boxes of priors are to have their locations as centres.

    Args:
        rule: any assigner, also `AtLeastOne`.
    """

    sees_regions = True

    def forward(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        """As of any rule; gt may have regions."""
        found = answer(self.rule, priors, gt.objects, predictions)
        if gt.object_count == len(gt):
            return found
        index = found.gt_index
        covered = _covered(priors, gt.regions, len(index))
        index = torch.where(covered & (index == BACKGROUND), IGNORE, index)
        return replace(found, gt_index=index)


def _covered(priors: Priors, regions: GroundTruth, images: int) -> Tensor:
    """(N, P) bool: the priors of which a region covers the share."""
    # A side that is covered halfway has its middle in the region. LEGACY sides end half a
    # pixel farther out, both of the prior and of the region.
    wider = torch.cat((regions.boxes[:, :2] - 0.5, regions.boxes[:, 2:] + 0.5), dim=1)
    margin = [1.0] * len(priors.levels)
    pairs = priors_within(priors, regions, wider[:, None], margin=margin)
    boxes = priors.boxes.index_select(0, pairs.prior)
    shared = regions.convention.intersection(boxes, regions.boxes.index_select(0, pairs.box))
    hit = shared >= SHARE * regions.convention.area(boxes)
    return has_pair(pairs, hit, (images, len(priors)))
