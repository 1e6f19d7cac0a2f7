"""Defines max-IoU assignment, which selects positives by a fixed threshold of the anchor IoU.

Lin et al., ICCV 2017 (RetinaNet), after Ren et al., NeurIPS 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners import check, recording
from dynamic_atss.assigners.base import Pairs, anchor_iou, centerness, inside, note, resolve
from dynamic_atss.assigners.ranges import priors_within
from dynamic_atss.assigners.reference.levels import level_numbers
from dynamic_atss.assigners.reference.overlaps import MAX_IOU_LABELS, best_of_a_box
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import IGNORE, Assignment, GroundTruth, Predictions, Priors, rows


class MaxIoU:
    """Assigns each prior its box of the largest IoU. Ignores priors between the thresholds.

    A prior with the largest IoU of some box is positive below the threshold, too. As in the
    releases, it learns its box of the largest IoU even then. Quality = centerness of the
    prior's centre.

    Args:
        positive, negative: thresholds of the IoU.
        inside_only: True ignores positives whose centre is outside of their box.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = True

    def __init__(
        self, positive: float = 0.5, negative: float = 0.4, inside_only: bool = False
    ) -> None:
        check.at_least(0, positive=positive, negative=negative)
        if negative > positive:
            raise ValueError(f"negative is {negative}; it must not be above positive, {positive}")
        self.positive, self.negative = positive, negative
        self.inside_only = inside_only

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose, score, resolve and select; here priors choose boxes
        index = self._labels(priors, gt, len(predictions.boxes))
        if recording.recorder is not None:
            self._record(priors, gt, len(index))
        if self.inside_only:
            outside = (index >= 0) & ~inside(priors.centers, rows(gt.boxes, index))
            index = torch.where(outside, IGNORE, index)
        return Assignment(index, _centerness(priors, gt, index))

    def _labels(self, priors: Priors, gt: GroundTruth, images: int) -> Tensor:
        """Gives the gt index of the largest IoU, IGNORE or BACKGROUND, (N, P)."""
        lattice = (level_numbers(priors.levels), priors.offset, _margin(priors))
        boxes = (priors.boxes, gt.boxes, gt.image_index, gt.extent)
        return MAX_IOU_LABELS(*boxes, *lattice, images, self.positive, self.negative)

    def _record(self, priors: Priors, gt: GroundTruth, images: int) -> None:
        """Repeats the assignment with pairs for the recorder."""
        half = torch.tensor(_margin(priors), device=gt.boxes.device)[:, None] / 2
        region = torch.cat((gt.boxes[:, None, :2] - half, gt.boxes[:, None, 2:] + half), dim=-1)
        pairs = priors_within(priors, gt, region, margin=_margin(priors))
        overlap = anchor_iou(priors, gt, pairs, BoxConvention.LEGACY).where(pairs.exists, 0.0)
        pairs = pairs._replace(exists=overlap > 0)
        shape = (images, len(priors))
        best = best_of_a_box(pairs.box, pairs.flat, overlap, len(gt), shape).take(pairs.flat)
        # A box also selects its best priors, but a prior goes to its box of the largest IoU.
        most = overlap.new_zeros(len(gt)).scatter_reduce_(0, pairs.box, overlap, "amax")
        note(score="anchor IoU", threshold=most.clamp(max=self.positive)[pairs.box])
        if self.inside_only:
            note(inside=inside(priors.centers[pairs.prior], gt.boxes[pairs.box]))
        resolve(pairs, (overlap >= self.positive) | best, overlap, overlap, shape)


def _margin(priors: Priors) -> tuple[float, ...]:
    """Gives by level how much larger than a box the region is that holds all overlapping priors."""
    return tuple(side + 2.0 for side in priors.largest)  # 2: the legacy "+1" of both boxes


def _centerness(priors: Priors, gt: GroundTruth, index: Tensor) -> Tensor:
    """Gives the centerness (N, P) of the positives. It is 0 for other priors."""
    flat, prior = index.flatten(), priors.numbers.expand_as(index).flatten()
    return centerness(priors, gt, Pairs(flat, prior, flat, flat)).view_as(index)
