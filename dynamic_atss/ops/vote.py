"""Box voting: boxes of one object become their mean (Gidaris and Komodakis, ICCV 2015); and score
voting (Kim and Lee, ECCV 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops.nms import multiclass_nms

_ROWS = 1024  # of the IoU matrix at a time, so that 10,000 boxes take tens of megabytes
_ROUNDING = 1e-9  # of an IoU in float64, far more than NMS and the matrix can differ by
_APART, _SIGMA = 0.01, 0.025  # of score voting, as released
_LEAST_WEIGHT = 1e-30
_LEAST = 1e-300  # boxes apart have IoU 0 and never vote together, however low the threshold


def box_vote(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    threshold: float,
    *,
    soft_threshold: float | None = None,
    convention: BoxConvention = BoxConvention.LEGACY,
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (V, 4), scores (V,) and classes (V,) after the vote, best first.

    Within a class, best box first: the boxes with IoU >= `threshold` to the best that is left are
    its cluster, and become one box at their mean, weighted by the scores, with the best score. With
    `soft_threshold`, each member of a cluster of two or more also stays where it is, at score *
    (1 - its IoU to the best), if that is at least `soft_threshold` (the release's "soft-vote").

    Args:
        boxes: (M, 4) xyxy, finite; an inverted one is alone in its cluster.
        scores: (M,), above 0.
        classes: (M,) int64.
        threshold: above 0; with more than 1 every box is alone in its cluster.
        convention: of the boxes.
    """
    if not len(boxes):
        return boxes, scores, classes
    # NMS suppresses above its threshold, the vote takes in what is at it.
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
    """Where boxes (N, D, 4) of N images go by the vote of their image's candidates: (N, D, 4).

    It is the mean of the candidates of the same class that have an IoU above 0.01 with the box,
    weighted by score * exp(-(1 - IoU)^2 / 0.025) (PAA, as released). A box that no candidate
    reaches stays. Nothing waits for the device; some 40 bytes for each of N x D x M.

    Args:
        classes: (N, D) int64.
        candidates: boxes (N, M, 4), scores (N, M), 0: none, and classes (N, M).
        convention: of the boxes.
    """
    voters, scores, their_classes = candidates
    overlap = convention.iou(boxes[:, :, None], voters[:, None])
    votes = (overlap > _APART) & (classes[..., None] == their_classes[:, None])
    weight = scores[:, None] * (-(1 - overlap).square() / _SIGMA).exp()
    weight = torch.where(votes, weight, 0.0)
    total = weight.sum(2, keepdim=True)
    return torch.where(total > 0, weight @ voters / total.clamp(min=_LEAST_WEIGHT), boxes)


def _clusters(
    boxes: Tensor, classes: Tensor, best: Tensor, threshold: float, convention: BoxConvention
) -> Tensor:
    """(M,): which of `best` (K,), in this order, each box belongs to: the first of its class that
    it reaches."""
    cluster = torch.zeros_like(classes)
    for c in classes.unique():
        own, rivals = ((some == c).nonzero()[:, 0] for some in (classes, classes[best]))
        reached = boxes[own], boxes[best[rivals]], max(threshold - _ROUNDING, _LEAST)
        first = _first_reached(*reached, convention)
        cluster[own] = rivals[first]
    # By decree, since an inverted box does not reach even itself.
    cluster[best] = torch.arange(len(best), device=best.device)
    return cluster


def _first_reached(
    boxes: Tensor, rivals: Tensor, threshold: float, convention: BoxConvention
) -> Tensor:
    """(M,): the first of `rivals` (K, 4) with IoU >= threshold, for each of `boxes` (M, 4)."""
    reached = [convention.iou(some[:, None], rivals) >= threshold for some in boxes.split(_ROWS)]
    return torch.cat([rows.byte().argmax(dim=1) for rows in reached])  # the first of equal ones


def _weighted_means(boxes: Tensor, scores: Tensor, cluster: Tensor, count: int) -> Tensor:
    """(count, 4). In float64, in which the mean of a single box is that box to the last bit."""
    weights = scores.double()[:, None]
    sums, total = boxes.new_zeros((count, 4)).double(), weights.new_zeros((count, 1))
    sums.index_add_(0, cluster, boxes.double() * weights)
    total.index_add_(0, cluster, weights)
    return (sums / total).to(boxes.dtype)
