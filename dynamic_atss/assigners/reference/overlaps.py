"""Assigns priors the boxes that they overlap most, by the thresholds of max-IoU assignment."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.assigners.reference.inside import list_locations, most_locations
from dynamic_atss.assigners.reference.levels import anchors_of, constant
from dynamic_atss.assigners.reference.pairs import pair_iou
from dynamic_atss.assigners.reference.selection import resolve
from dynamic_atss.ops.library import define
from dynamic_atss.types import BACKGROUND, IGNORE


def max_iou_labels(
    anchors: Tensor,
    boxes: Tensor,
    image_index: Tensor,
    extent: Tensor,
    levels: list[int],
    offset: float,
    margin: list[float],
    images: int,
    positive: float,
    negative: float,
) -> Tensor:
    """Gives the gt index of the largest IoU of each anchor, IGNORE or BACKGROUND, (N, P).

    Args:
        anchors: (P, 4).
        boxes, image_index, extent: (T, 4), (T,), and (T, 2) width and height of the boxes.
        margin: by level, the number of pixels by which the region in which anchors overlap a box
            is wider than the box.
        images: N.
        positive, negative: thresholds of the IoU.
    """
    # propose
    half = constant(tuple(margin), boxes.device)[:, None] / 2
    region = torch.cat((boxes[:, None, :2] - half, boxes[:, None, 2:] + half), dim=-1)
    length = most_locations(extent, levels, 0.0, [], margin)
    count = anchors_of(levels, len(anchors))
    box, prior, flat, exists = list_locations(
        boxes, image_index, region, levels, offset, count, length
    )
    # score
    score = pair_iou(anchors, prior, boxes, box, 1.0).where(exists, 0.0)
    # resolve and select
    shape = (images, len(anchors))
    index, largest = resolve(box, flat, exists, score > 0, score, score, *shape)
    wins = (largest >= positive) | best_of_a_box(box, flat, score, len(boxes), shape)
    return torch.where(wins, index, torch.where(largest >= negative, IGNORE, BACKGROUND))


def best_of_a_box(
    box: Tensor, flat: Tensor, score: Tensor, boxes: int, shape: tuple[int, int]
) -> Tensor:
    """Flags the priors that have the largest IoU with some box, (N, P)."""
    best = score.new_zeros(boxes).scatter_reduce_(0, box, score, "amax")
    slots = shape[0] * shape[1]
    flat = torch.where((score > 0) & (score == best.index_select(0, box)), flat, slots)
    claimed = flat.new_zeros(slots + 1, dtype=torch.bool).scatter_(0, flat, True)
    return claimed[:slots].view(shape)


MAX_IOU_LABELS = define(
    "max_iou_labels(Tensor priors, Tensor boxes, Tensor image_index, Tensor extent, int[] levels,"
    " float offset, float[] margin, int images, float positive, float negative) -> Tensor",
    max_iou_labels,
    lambda priors, boxes, image_index, *others: image_index.new_empty(others[4], len(priors)),
)
