"""Computes the rules that take the cheapest candidates, as many as the largest IoUs sum to.

The releases repeat scores and classes for every pair, (V, T, C) for V candidates. Functions named
`..._by_logits` compute the same labels without this tensor.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dense.image import Image, box_sides, exact_iou, near_center
from dynamic_atss.boxes import centers


def simota(image: Image, radius: float = 1.5) -> Tensor:
    """Takes the points near any centre as candidates."""
    near = near_center(image, radius)
    allowed = _only(image, near.any(1))
    scores = _for_every_box(allowed).sigmoid()
    target = F.one_hot(image.classes, scores.shape[-1]).float()[None].repeat(len(scores), 1, 1)
    cost = F.binary_cross_entropy(scores, target, reduction="none").sum(-1)
    del scores, target
    return _near_first(image, near, cost)


def simota_by_logits(image: Image, radius: float = 1.5) -> Tensor:
    near = near_center(image, radius)
    logits = image.logits[near.any(1)]
    return _near_first(image, near, F.softplus(logits).sum(-1)[:, None] - logits[:, image.classes])


def _near_first(image: Image, near: Tensor, cost: Tensor, k: int = 10) -> Tensor:
    candidate = near.any(1)
    overlap = exact_iou(_only(image, candidate))
    cost = (cost - 3 * (overlap + 1e-8).log()).double() + 1e6 * ~near[candidate]
    return _assigned(candidate, cost, overlap, k)


def dynamic_soft_label(image: Image) -> Tensor:
    """Takes the points inside any box as candidates."""
    candidate = (box_sides(image).amin(-1) > 0).any(1)
    allowed = _only(image, candidate)
    overlap, logits = exact_iou(allowed), _for_every_box(allowed)
    target = F.one_hot(image.classes, logits.shape[-1]).float() * overlap[..., None]
    scale = target - logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    cost = (entropy * scale.abs() ** 2).sum(-1)
    del logits, target, scale, entropy
    return _soft(allowed, candidate, cost, overlap)


def dynamic_soft_label_by_logits(image: Image) -> Tensor:
    candidate = (box_sides(image).amin(-1) > 0).any(1)
    allowed = _only(image, candidate)
    overlap, logit = exact_iou(allowed), allowed.logits[:, image.classes]
    as_target = (F.softplus(logit) - overlap * logit) * (overlap - logit.sigmoid()) ** 2
    every = _as_background(allowed.logits).sum(-1)[:, None]
    return _soft(allowed, candidate, every - _as_background(logit) + as_target, overlap)


def _as_background(logits: Tensor) -> Tensor:
    return F.softplus(logits) * logits.sigmoid() ** 2


def _soft(allowed: Image, candidate: Tensor, cost: Tensor, overlap: Tensor, k: int = 13) -> Tensor:
    """Adds the soft centre prior in float64, because a float32 would overflow."""
    away = allowed.priors.centers[candidate, None] - centers(allowed.boxes)
    away = away.square().sum(-1).sqrt()
    power = (away / allowed.priors.strides[candidate, None]).double() - 3
    cost = cost - 3 * (overlap + 1e-7).log() + 10**power
    return _assigned(candidate, cost, overlap, k)


def _only(image: Image, candidate: Tensor) -> Image:
    """Returns the image with the predictions of the candidates only."""
    return image._replace(predicted=image.predicted[candidate], logits=image.logits[candidate])


def _for_every_box(image: Image) -> Tensor:
    return image.logits[:, None].repeat(1, len(image.boxes), 1)


def _assigned(candidate: Tensor, cost: Tensor, overlap: Tensor, k: int) -> Tensor:
    """Gives a candidate that several boxes take to the box with the least cost."""
    matched = _cheapest(cost, overlap, k)
    index = torch.where(matched.any(1), matched.int().argmax(1), -1)
    index = torch.where(matched.sum(1) > 1, cost.argmin(1), index)
    return index.new_full((len(candidate),), -1).masked_scatter_(candidate, index)


def _cheapest(cost: Tensor, overlap: Tensor, k: int) -> Tensor:
    """Flags (V, T) as many points of a box as its k largest IoUs sum to; loops like the release."""
    counts = overlap.topk(min(k, len(overlap)), dim=0).values.sum(0).int().clamp(min=1)
    matched = torch.zeros_like(cost, dtype=torch.bool)
    for t, count in enumerate(counts.tolist()):
        matched[cost[:, t].topk(count, largest=False).indices, t] = True
    return matched
