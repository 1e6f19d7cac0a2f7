"""Computes the rules that read where priors lie."""

from __future__ import annotations

import torch
from torch import Tensor

from dense.image import (
    Image,
    anchor_iou,
    best_of,
    box_sides,
    center_distance,
    inside,
    last_of,
    predicted_iou,
)
from dynamic_atss.assigners.rules.rfla import FIELDS
from dynamic_atss.assigners.rules.simd import VISDRONE
from dynamic_atss.boxes import BoxConvention, centers


def atss(image: Image) -> Tensor:
    anchor = anchor_iou(image)
    return _adaptive(image, [anchor], anchor)


def dynamic_atss(image: Image) -> Tensor:
    anchor, predicted = anchor_iou(image), predicted_iou(image)
    return _adaptive(image, [predicted, anchor], predicted + anchor)


def _adaptive(image: Image, terms: list[Tensor], score: Tensor, topk: int = 9) -> Tensor:
    distance, first, candidates = center_distance(image), 0, []
    for level in image.priors.levels:
        part = distance[first : first + level.locations]
        k = min(topk, level.locations)
        candidates.append(first + part.topk(k, dim=0, largest=False).indices)
        first += level.locations
    candidate = torch.cat(candidates)  # (K, T)
    at = [term.gather(0, candidate) for term in terms]
    threshold = sum(x.mean(0) for x in at) + sum(x.std(0) for x in at)
    selected = inside(image, candidate) & (score.gather(0, candidate) >= threshold)
    return best_of(score, candidate, selected)


def topk(image: Image, k: int = 9) -> Tensor:
    overlap, distance = anchor_iou(image), center_distance(image)
    candidate = (overlap - distance / distance.max() / 1000).topk(k, dim=0).indices
    return best_of(overlap, candidate, inside(image, candidate))


def max_iou(image: Image, positive: float = 0.5, negative: float = 0.4) -> Tensor:
    overlap = anchor_iou(image)
    best, index = overlap.max(1)
    most = overlap.max(0).values
    claimed = ((overlap == most) & (overlap > 0)).any(1)
    index = torch.where(claimed | (best >= positive), index, -2)
    return torch.where((index == -2) & (best < negative), -1, index)


def fcos(image: Image) -> Tensor:
    distances = box_sides(image)  # (P, T, 4)
    farthest = distances.amax(-1)
    low = farthest.new_tensor((-1, 64, 128, 256, 512))[image.priors.level, None]
    high = farthest.new_tensor((64, 128, 256, 512, torch.inf))[image.priors.level, None]
    fits = (distances.amin(-1) > 0) & (farthest >= low) & (farthest <= high)
    size = BoxConvention.LEGACY.area(image.boxes).expand(fits.shape)
    least, index = torch.where(fits, size, torch.inf).min(1)
    return torch.where(least.isfinite(), index, -1)


def dsla(image: Image) -> Tensor:
    """Computes DSLA with relaxation 0.2 and the core zone."""
    distances = box_sides(image)  # (P, T, 4)
    inside, size = distances.amin(-1) > 0, distances.amax(-1)
    left, top, right, bottom = distances.clamp(min=0).unbind(-1)
    ratio = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=0.01)
    ratio = ratio * (torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=0.01))
    half = image.priors.strides[:, None, None] / 2
    away = (image.priors.centers[:, None] - centers(image.boxes)).abs()
    score = torch.where((away <= half).all(-1), 1.0, ratio.sqrt())
    level = image.priors.level[:, None]
    begin, end = (0, 64, 128, 256, 512), (64, 128, 256, 512, 1e8)
    ends = ([int(0.8 * x) for x in begin], begin, end, [int(1.2 * x) for x in end])
    lowest, low, high, highest = (size.new_tensor(x)[level] for x in ends)
    below = (size - lowest) / (low - lowest).clamp(min=0.01)
    above = (highest - size) / (highest - high).clamp(min=0.01)
    fit = torch.where(size < low, below, torch.where(size > high, above, 1.0)).clamp(min=0)
    best, index = torch.where(inside, score * fit, 0.0).max(1)
    return torch.where(best > 0, index, -1)


def rfla(image: Image) -> Tensor:
    index = image.classes.new_full((len(image.priors),), -1)
    for k, scale in ((3, 1.0), (1, 0.9)):
        similar = _field_similarity(image, scale)
        taken = similar >= similar.topk(min(k, len(similar)), dim=0).values[-1]
        index = torch.where(index >= 0, index, last_of(taken))
    return torch.where((index < 0) & (similar.amax(1) >= 0.8), -2, index)


def _field_similarity(image: Image, scale: float) -> Tensor:
    """Returns the similarity (P, T) of boxes with the receptive fields of locations."""
    field = image.boxes.new_tensor(FIELDS)[image.priors.level, None] * scale + 1e-6
    x, y = (image.priors.centers[:, None] - centers(image.boxes)).unbind(-1)
    w, h = (image.boxes[:, 2:] - image.boxes[:, :2] + 1 + 1e-6).square().unbind(-1)
    f = field.square()
    spread = f / w + f / h + (w / f).log() + (h / f).log() - 2
    return 1 / (1 + (spread + 4 * x.square() / w + 4 * y.square() / h) / 2)


def simd(image: Image) -> Tensor:
    """Computes SimD with the means of the release."""
    anchors, means = image.priors.boxes[:, None], image.boxes.new_tensor(VISDRONE)
    one_pixel = 1 + 1e-6
    side, other = (b[..., 2:] - b[..., :2] + one_pixel for b in (image.boxes, anchors))
    unit = (side + other) / means
    away = ((centers(image.boxes) - centers(anchors)) / unit).square().sum(-1).sqrt()
    similar = (-(away + ((side - other) / unit).square().sum(-1).sqrt())).exp()
    best, index = similar.max(1)
    most = similar.amax(0)
    claimed = last_of((similar == most) & (most >= 0.3))
    index = torch.where(claimed >= 0, claimed, torch.where(best >= 0.7, index, -2))
    return torch.where((index == -2) & (best < 0.3), -1, index)
