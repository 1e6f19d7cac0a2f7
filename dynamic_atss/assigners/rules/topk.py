"""Defines top-k, which gives each box its k anchors of the largest IoU.

It comes from the release of ATSS, POSITIVE_TYPE "TOPK" (Zhang et al., CVPR 2020, arXiv
1912.02424).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    anchor_iou,
    best_of_box,
    box_sides,
    center_offsets,
    centerness,
    inside_of,
    note,
    resolve,
)
from dynamic_atss.assigners.nearest import surrounding_candidates
from dynamic_atss.boxes import centers
from dynamic_atss.types import Assignment, GroundTruth, Level, Predictions, Priors


class TopK:
    """Selects those of the k anchors of each box that have their centre inside the box.

    Subtracts from the IoU a thousandth of the distance to the box's centre, relative to the longest
    distance of the image. So the nearest of equal anchors win. Quality = centerness.

    Args:
        topk: anchors of each box.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = True

    def __init__(self, topk: int = 9) -> None:
        check.integer(1, topk=topk)
        self.topk = topk

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        images, count = predictions.boxes.shape[:2]
        # propose
        pairs = surrounding_candidates(priors, gt, self.topk)
        # score
        overlap = anchor_iou(priors, gt, pairs)
        x, y = center_offsets(priors, gt, pairs)
        longest = _longest_distance(priors, gt, images).index_select(0, gt.image_index)[:, None]
        score = overlap - (x * x + y * y).sqrt() / longest / 1000
        # select
        note(score="anchor IoU less nearness")
        best, places = best_of_box(pairs, score, self.topk, len(gt))
        selected = inside_of(box_sides(priors, gt, best))
        note(score="anchor IoU", inside=selected)
        # resolve
        quality = centerness(priors, gt, best)
        return resolve(best, selected, overlap.take(places), quality, (images, count))


def _longest_distance(priors: Priors, gt: GroundTruth, images: int) -> Tensor:
    """Gives the longest distance from a prior of the image to the centre of any of its boxes, (N,).

    It is that of a prior in a corner, and at least 1.
    """
    corners = _corners(priors.levels, priors.offset, gt.boxes.device).to(gt.boxes.dtype)
    x, y = (centers(gt.boxes)[:, None] - corners).unbind(-1)
    distance = (x * x + y * y).sqrt()
    distance = distance.where(distance.isfinite(), 0).amax(1)
    return distance.new_ones(images).scatter_reduce_(0, gt.image_index, distance, "amax")


@lru_cache(maxsize=64)  # a copy to the device waits for it, so makes one per feature size
def _corners(levels: tuple[Level, ...], offset: float, device: torch.device) -> Tensor:
    """Gives the four corner locations of each level, (4 L, 2)."""
    sides = (((offset, x.width - 1 + offset), (offset, x.height - 1 + offset)) for x in levels)
    return torch.cat(
        [
            torch.cartesian_prod(*map(torch.tensor, side)) * level.stride
            for level, side in zip(levels, sides, strict=True)
        ]
    ).to(device)
