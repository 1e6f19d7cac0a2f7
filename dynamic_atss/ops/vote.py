"""Averages the boxes of an object: box voting and score voting.

Box voting: Gidaris and Komodakis, ICCV 2015. Score voting: Kim and Lee, ECCV 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops.nms import multiclass_nms

_ROWS = 1024  # rows of the IoU matrix at a time; 10,000 boxes then take tens of megabytes
_ROUNDING = 1e-9  # more than the IoUs of NMS and of the matrix can differ in float64
_MIN_IOU, _SIGMA = 0.01, 0.025  # of score voting, as released
_MIN_WEIGHT = 1e-30
_MIN_THRESHOLD = 1e-300  # boxes with an IoU of 0 never vote together


def box_vote(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    *,
    soft_threshold: float | None = None,
    convention: BoxConvention = BoxConvention.LEGACY,
) -> tuple[Tensor, Tensor, Tensor]:
    """Replaces clusters of boxes by their means.

    Repeats for each class: takes the best remaining box and all boxes with IoU >= `threshold` to it
    as a cluster. The cluster becomes a box at the mean, weighted by the scores, with the best
    score. With `soft_threshold`, each member of a cluster of two or more also stays, with
    score * (1 - IoU to the best), if that is at least `soft_threshold`. The release calls it
    "soft-vote".

    Args:
        boxes: (M, 4) xyxy, finite. An inverted box forms a cluster alone.
        scores: (M,), above 0.
        classes: (M,) int64.
        threshold: above 0. Above 1, every box forms a cluster alone.
        convention: of the boxes.

    Returns:
        boxes (V, 4), scores (V,) and classes (V,), best first.
    """
    if not len(boxes):
        return boxes, scores, classes
    # NMS suppresses above its threshold, but a cluster also has boxes at the threshold.
    best = multiclass_nms(boxes, scores, classes, math.nextafter(threshold, 0.0), convention)
    cluster = _clusters(boxes.double(), classes, best, threshold, convention)
    means = _weighted_means(boxes, scores, cluster, len(best))
    voted = means, scores[best], classes[best]
    if soft_threshold is None:
        return voted
    lowered = scores * (1 - convention.iou(boxes, boxes[best][cluster]))
    stays = (lowered >= soft_threshold) & (torch.bincount(cluster)[cluster] > 1)
    members = boxes[stays], lowered[stays], classes[stays]
    boxes, scores, classes = (torch.cat(pair) for pair in zip(voted, members, strict=True))
    order = scores.argsort(descending=True, stable=True)
    return boxes[order], scores[order], classes[order]


def score_vote(
    boxes: Tensor,
    classes: Tensor,
    candidates: tuple[Tensor, Tensor, Tensor],
    convention: BoxConvention = BoxConvention.LEGACY,
) -> Tensor:
    """Moves boxes to the mean of the candidates of their class, as released with PAA.

    Uses candidates with an IoU above 0.01 and weighs them by score * exp(-(1 - IoU)^2 / 0.025). A
    box without such candidates stays. A candidate that is not finite has no vote. Does not wait for
    the device. Needs about 40 bytes for each of N x D x M pairs.

    Args:
        boxes: (N, D, 4) xyxy of N images.
        classes: (N, D) int64.
        candidates: boxes (N, M, 4), scores (N, M), 0: no candidate, and classes (N, M).
        convention: of the boxes.

    Returns:
        boxes (N, D, 4).
    """
    voters, scores, their_classes = candidates
    overlap = convention.iou(boxes[:, :, None], voters[:, None])
    votes = (overlap > _MIN_IOU) & (classes[..., None] == their_classes[:, None])
    weight = scores[:, None] * (-(1 - overlap).square() / _SIGMA).exp()
    weight = torch.where(votes, weight, 0.0)
    total = weight.sum(2, keepdim=True)
    voters = torch.where(voters.isfinite(), voters, 0.0)  # 0 times infinity is NaN
    return torch.where(total > 0, weight @ voters / total.clamp(min=_MIN_WEIGHT), boxes)


def _clusters(
    boxes: Tensor, classes: Tensor, best: Tensor, threshold: float, convention: BoxConvention
) -> Tensor:
    """Gives for each box the place in `best` (K,) of its cluster, (M,).

    This is the first of its class with an IoU of at least the threshold.
    """
    cluster = torch.zeros_like(classes)
    least = max(threshold - _ROUNDING, _MIN_THRESHOLD)
    for c in classes.unique():
        members, rivals = ((x == c).nonzero()[:, 0] for x in (classes, classes[best]))
        first = _first_reached(boxes[members], boxes[best[rivals]], least, convention)
        cluster[members] = rivals[first]
    # The best boxes are set explicitly, because an inverted box has an IoU of 0 with itself.
    cluster[best] = torch.arange(len(best), device=best.device)
    return cluster


def _first_reached(
    boxes: Tensor, rivals: Tensor, threshold: float, convention: BoxConvention
) -> Tensor:
    """Gives for each of `boxes` (M, 4) the first of `rivals` (K, 4) with IoU >= threshold, (M,)."""
    reached = [convention.iou(part[:, None], rivals) >= threshold for part in boxes.split(_ROWS)]
    return torch.cat([rows.byte().argmax(dim=1) for rows in reached])  # argmax gives the first


def _weighted_means(boxes: Tensor, scores: Tensor, cluster: Tensor, count: int) -> Tensor:
    """Averages each cluster, (count, 4). In float64 the mean of one box is exactly that box."""
    weights = scores.double()[:, None]
    sums, total = boxes.new_zeros((count, 4)).double(), weights.new_zeros((count, 1))
    sums.index_add_(0, cluster, boxes.double() * weights)
    total.index_add_(0, cluster, weights)
    return (sums / total).to(boxes.dtype)
