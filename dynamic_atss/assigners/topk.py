"""Top-k: every box takes its k anchors of the largest IoU.

The release of ATSS, POSITIVE_TYPE "TOPK" (Zhang et al., CVPR 2020, arXiv 1912.02424).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dynamic_atss.assigners.base import (
    Pairs,
    anchor_iou,
    box_sides,
    center_offsets,
    centerness,
    inside_of,
    resolve,
    whole,
)
from dynamic_atss.assigners.nearest import surrounding_candidates
from dynamic_atss.assigners.pairs import (
    best_and_values,
    fake_best_and_values,
    level_numbers,
    priors_of,
)
from dynamic_atss.boxes import centers
from dynamic_atss.ops.library import define
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
        # propose, score, select
        best, overlap = self._best(priors, gt, len(predictions.boxes))
        selected = inside_of(box_sides(priors, gt, best))
        # resolve
        shape = predictions.boxes.shape[:2]
        return resolve(best, selected, overlap, centerness(priors, gt, best), shape)

    def _best(self, priors: Priors, gt: GroundTruth, images: int) -> tuple[Pairs, Tensor]:
        """The best pairs of each box (T, topk) and their IoUs."""
        prior, flat, exists, overlap = _BEST(
            *(priors.boxes, gt.boxes, gt.image, images),
            *(level_numbers(priors.levels), priors.offset, self.topk),
        )
        box = torch.arange(len(gt), device=prior.device)[:, None]
        return Pairs(box, prior, flat, exists), overlap


def _most_overlapping(
    anchors: Tensor,
    boxes: Tensor,
    image: Tensor,
    images: int,
    levels: list[int],
    offset: float,
    k: int,
) -> tuple[Tensor, ...]:
    priors, gt = priors_of(anchors, levels, offset), GroundTruth(boxes, image, image)
    # propose
    pairs = surrounding_candidates(priors, gt, k)
    # score
    overlap = anchor_iou(priors, gt, pairs, extra=1)
    x, y = center_offsets(priors, gt, pairs)
    longest = _longest_distance(priors, gt, images).index_select(0, image)[:, None]
    score = overlap - (x * x + y * y).sqrt() / longest / 1000
    # select
    return best_and_values(pairs, score, k, len(boxes), overlap)


def _longest_distance(priors: Priors, gt: GroundTruth, images: int) -> Tensor:
    """(N,) from any prior of the image to the centre of any of its boxes, so from a corner; 1 at
    least."""
    corners = _corners(priors.levels, priors.offset, gt.boxes.device).to(gt.boxes.dtype)
    x, y = (centers(gt.boxes)[:, None] - corners).unbind(-1)
    distance = (x * x + y * y).sqrt()
    distance = distance.where(distance.isfinite(), 0).amax(1)
    return distance.new_ones(images).scatter_reduce_(0, gt.image, distance, "amax")


@lru_cache(maxsize=64)  # made once per feature size, since a copy to the device would wait for it
def _corners(levels: tuple[Level, ...], offset: float, device: torch.device) -> Tensor:
    """(4 L, 2) the outermost locations of each level."""
    sides = (((offset, x.width - 1 + offset), (offset, x.height - 1 + offset)) for x in levels)
    return torch.cat(
        [
            torch.cartesian_prod(*map(torch.tensor, side)) * level.stride
            for level, side in zip(levels, sides, strict=True)
        ]
    ).to(device)


_BEST = define(
    "most_overlapping(Tensor anchors, Tensor boxes, Tensor image, int images, int[] levels,"
    " float offset, int k) -> (Tensor, Tensor, Tensor, Tensor)",
    _most_overlapping,
    lambda anchors, boxes, *others: fake_best_and_values(boxes, others[-1], values=1),
)
