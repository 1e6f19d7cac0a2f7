"""Holds one image with its boxes, and computes the matrices (P, T) that rules share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention, centers, iou, sides
from dynamic_atss.types import Priors


class Image(NamedTuple):
    """Holds ground truth and predictions of one image with T > 0 boxes."""

    priors: Priors
    boxes: Tensor  # (T, 4)
    classes: Tensor  # (T,)
    predicted: Tensor  # (P, 4)
    logits: Tensor  # (P, C)


def anchor_iou(image: Image) -> Tensor:
    return BoxConvention.LEGACY.iou(image.priors.boxes[:, None], image.boxes[None])


def predicted_iou(image: Image) -> Tensor:
    return BoxConvention.LEGACY.iou(image.predicted[:, None], image.boxes[None])


def exact_iou(image: Image) -> Tensor:
    """Measures predicted boxes without "+1"."""
    return iou(image.predicted[:, None], image.boxes[None])


def box_sides(image: Image) -> Tensor:
    points = image.priors.centers[:, None].expand(-1, len(image.boxes), -1)
    return sides(points, image.boxes.expand(len(points), -1, -1))


def center_distance(image: Image) -> Tensor:
    return (image.priors.centers[:, None] - centers(image.boxes)).square().sum(-1).sqrt()


def near_center(image: Image, radius: float) -> Tensor:
    away = (image.priors.centers[:, None] - centers(image.boxes)).abs().amax(-1)
    return away < radius * image.priors.strides[:, None]


def inside(image: Image, candidate: Tensor) -> Tensor:
    """Returns True for (K, T) priors that lie inside their box, pair by pair like the releases."""
    boxes = image.boxes.expand(len(candidate), -1, -1)
    return sides(image.priors.centers[candidate], boxes).amin(-1) > 0.01


def best_of(score: Tensor, candidate: Tensor, selected: Tensor) -> Tensor:
    """Returns for each prior the selected box with the largest score."""
    kept = torch.where(selected, score.gather(0, candidate), -torch.inf)
    best, index = torch.full_like(score, -torch.inf).scatter_(0, candidate, kept).max(dim=1)
    return torch.where(best > -torch.inf, index, -1)


def last_of(taken: Tensor) -> Tensor:
    """Returns the last box (P,) that selects a prior in (P, T)."""
    order = torch.arange(1, taken.shape[1] + 1, device=taken.device)
    return torch.where(taken, order, 0).amax(1) - 1
