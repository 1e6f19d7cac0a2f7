"""Defines ATSS, which selects positives by an adaptive threshold of the anchor IoU.

Zhang et al., CVPR 2020, arXiv 1912.02424.
"""

from __future__ import annotations

import torch

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    anchor_iou,
    box_sides,
    centerness,
    inside_of,
    note,
    resolve,
    std,
)
from dynamic_atss.assigners.nearest import nearest_candidates
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors


class ATSS:
    """Selects candidates whose anchor IoU reaches the box's mean + standard deviation.

    Quality = centerness of the prior's centre in its box.

    Args:
        topk: candidate locations of a box on each level.

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
        # propose
        pairs = nearest_candidates(priors, gt, self.topk)
        # score
        anchor = anchor_iou(priors, gt, pairs)
        # select
        threshold = anchor.mean(1, keepdim=True) + std(anchor)
        inside = inside_of(box_sides(priors, gt, pairs))
        note(score="anchor IoU", threshold=threshold, inside=inside)
        selected = (anchor >= threshold) & inside
        # resolve
        shape = predictions.boxes.shape[:2]
        return resolve(pairs, selected, anchor, centerness(priors, gt, pairs), shape)
