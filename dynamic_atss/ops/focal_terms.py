"""Computes the terms of the focal losses with their derivatives, element by element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMOID, QUALITY, VARIFOCAL = range(3)  # as in csrc/focal.h
SOFT = 3  # has no operator

_LARGE = 1e30  # replaces infinity where it would be multiplied by 0


def negative_term(x: Tensor, weight: float | Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Computes weight p^gamma softplus(x) and its derivative."""
    p, complement, softplus = x.sigmoid(), (-x).sigmoid(), F.softplus(x)
    weighted = weight * p.pow(gamma)
    return weighted * softplus, weighted * (gamma * complement * softplus.clamp(max=_LARGE) + p)


def positive_term(
    x: Tensor, quality: Tensor | None, kind: int, alpha: float, gamma: float
) -> tuple[Tensor, Tensor]:
    """Computes the terms (M,) of a positive's class and their derivatives."""
    if kind == SIGMOID or quality is None:
        loss, gradient = negative_term(-x, alpha, gamma)
        return loss, -gradient
    p, complement = x.sigmoid(), (-x).sigmoid()
    entropy = _weighted(1 - quality, F.softplus(x)) + _weighted(quality, F.softplus(-x))
    difference = p - quality
    if kind == SOFT:
        return entropy, difference
    if kind == VARIFOCAL:
        loss, gradient = negative_term(x, alpha, gamma)  # for quality 0
        loss = torch.where(quality > 0, quality * entropy, loss)
        gradient = torch.where(quality > 0, quality * difference, gradient)
        return loss, gradient
    power = difference.abs().pow(gamma)
    slope = torch.where(difference == 0, 0.0, gamma * power / difference)
    return power * entropy, slope * p * complement * entropy.clamp(max=_LARGE) + power * difference


def _weighted(weight: Tensor, x: Tensor) -> Tensor:
    """Multiplies x by the weight. The product is 0 for weight 0, also where x is infinite."""
    return torch.where(weight == 0, 0.0, weight * x)
