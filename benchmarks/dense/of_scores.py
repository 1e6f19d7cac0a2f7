"""Computes the rules that read the score of each box's class and the predicted IoU."""

from __future__ import annotations

import torch
from torch import Tensor

from dense.image import Image, best_of, box_sides, exact_iou, inside, near_center
from dynamic_atss.boxes import centers, giou


def task_aligned(image: Image, k: int = 13) -> Tensor:
    """Takes the best of all points, then drops those outside the box."""
    overlap = exact_iou(image)
    alignment = image.logits.sigmoid()[:, image.classes] * overlap**6
    candidate = alignment.topk(min(k, len(alignment)), dim=0).indices
    selected = inside(image, candidate) & (alignment.gather(0, candidate) > 0)
    return best_of(overlap, candidate, selected)


def small_target_aligned(image: Image, k: int = 10) -> Tensor:
    """Keeps as many positives as candidates, so that the second top-k drops none."""
    stride, lengths = image.priors.strides.min(), image.boxes[:, 2:] - image.boxes[:, :2]
    lacking = torch.where(lengths < stride, 2 * stride - lengths, 0.0) / 2
    wide = image._replace(boxes=image.boxes + torch.cat((-lacking, lacking), dim=1))
    overlap = exact_iou(image)
    alignment = image.logits.sigmoid()[:, image.classes].sqrt() * overlap**6
    alignment = torch.where(box_sides(wide).amin(-1) > 0.01, alignment, 0.0)
    value, candidate = alignment.topk(min(k, len(alignment)), dim=0)
    return best_of(overlap, candidate, value > 0)


def o2f(image: Image, k: int = 7, power: float = 0.8, radius: float = 1.5) -> Tensor:
    score = image.logits.sigmoid()[:, image.classes] ** (1 - power) * exact_iou(image) ** power
    fits = (box_sides(image).amin(-1) > 0) & near_center(image, radius)
    value, candidate = torch.where(fits, score, 0.0).topk(min(k, len(score)), dim=0)
    return best_of(score, candidate, value > 0)


def dw(image: Image, sigma: float = 1.11, beta: float = 5.0, mu: float = 5.0) -> Tensor:
    fits = box_sides(image).amin(-1) > 0
    loss = 1 - giou(image.predicted[:, None], image.boxes[None])
    score = image.logits.sigmoid()[:, image.classes] * (-beta * loss).exp()
    away = (image.priors.centers[:, None] - centers(image.boxes)).square().sum(-1)
    near = (-away / image.priors.strides[:, None].square() / (2 * sigma**2)).exp()
    share = torch.where(fits, score * near, 0.0)
    total = ((3 * score).exp() * share).sum(0, dtype=torch.float64).clamp(min=1e-12)
    weight = torch.where(fits, (mu * score).exp() * share / total.to(share.dtype), -torch.inf)
    best, index = weight.max(1)
    return torch.where(best > -torch.inf, index, -1)


def poto(image: Image, alpha: float = 0.8, radius: float = 1.5) -> Tensor:
    """Matches all priors with all boxes on the host, like the release.

    Drops pairs whose prior is not in the region of its box (score -1).
    """
    from scipy.optimize import linear_sum_assignment

    score = image.logits[:, image.classes].sigmoid()
    overlap = exact_iou(image)
    fits = (box_sides(image).amin(-1) > 0) & near_center(image, radius)
    quality = torch.where(fits, score ** (1 - alpha) * overlap**alpha, -1.0)
    matched = linear_sum_assignment(quality.t().cpu().numpy(), maximize=True)
    box, prior = (torch.from_numpy(x).to(fits.device) for x in matched)
    box = torch.where(fits[prior, box], box, -1)
    return box.new_full((len(fits),), -1).scatter_(0, prior, box)
