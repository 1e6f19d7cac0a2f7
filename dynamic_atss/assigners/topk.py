"""Top-k: every box takes its k anchors of the largest IoU.

The release of ATSS, POSITIVE_TYPE "TOPK" (Zhang et al., CVPR 2020, arXiv 1912.02424).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.base import (
    anchor_iou,
    best_of_box,
    box_sides,
    center_offsets,
    centerness,
    inside_of,
    resolve,
    whole,
)
from dynamic_atss.assigners.nearest import surrounding_candidates
from dynamic_atss.assigners.ranges import constant
from dynamic_atss.boxes import centers
from dynamic_atss.types import Assignment, GroundTruth, Level, Predictions, Priors


class TopK:
    """Of the k anchors those with the centre inside the box; quality = their centerness.

    A thousandth of the distance to the box's centre, in units of the longest distance of the image,
    is taken off the IoU: among equal ones the nearest count.

    Args:
        topk: anchors of each box.

    Raises:
        ValueError: for a value that is not accepted.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = True

    def __init__(self, topk: int = 9) -> None:
        whole(1, topk=topk)
        self.topk = topk

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = surrounding_candidates(priors, gt, self.topk)
        # score
        anchor = anchor_iou(priors, gt, pairs, extra=1)
        distance = center_offsets(priors, gt, pairs).square().sum(0).sqrt()
        longest = _longest_distance(priors, gt, len(predictions.boxes))
        # select
        score = anchor - distance / longest[gt.image][:, None] / 1000
        best, places = best_of_box(pairs, score, self.topk, len(gt))
        selected = inside_of(box_sides(priors, gt, best))
        # resolve
        shape = predictions.boxes.shape[:2]
        return resolve(best, selected, anchor.take(places), centerness(priors, gt, best), shape)


def _longest_distance(priors: Priors, gt: GroundTruth, images: int) -> Tensor:
    """(N,) from any prior of the image to the centre of any of its boxes: from a corner."""
    corners = tuple(x for level in priors.levels for x in _corners(level, priors.offset))
    corners_xy = constant(corners, gt.boxes.device).view(-1, 2)
    distance = (corners_xy - centers(gt.boxes)[:, None]).square().sum(-1).sqrt().amax(1)
    return distance.new_ones(images).scatter_reduce_(0, gt.image, distance, "amax")


def _corners(level: Level, offset: float) -> list[float]:
    """x and y of the four outermost locations, one after the other."""
    columns, rows = (offset, level.width - 1 + offset), (offset, level.height - 1 + offset)
    return [z * level.stride for y in rows for x in columns for z in (x, y)]
