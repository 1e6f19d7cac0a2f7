"""Fits mixtures of two Gaussians to many short rows of numbers at once.

Uses expectation maximisation as scikit-learn's `GaussianMixture` does: float64, a tolerance of
1e-3 of the mean log likelihood, at most 100 rounds, and 1e-6 added to the variances. It starts with
the smallest and the largest number as means, weights of 0.5 and variances of 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynamic_atss.ops.library import define

ITERATIONS = 100
TOLERANCE = 1e-3
MIN_VARIANCE = 1e-6


def low_component(values: Tensor, count: Tensor) -> Tensor:
    """Counts the numbers of each row up to the likeliest one of the lower Gaussian, (G,) int64.

    Counts all numbers of a row if none belongs to the lower Gaussian, if the row has fewer than two
    numbers, or if one is not finite.

    Args:
        values: (G, K) float64 in increasing order. Entries after a row's count are ignored.
        count: (G,) int64, from 0 to K.
    """
    rows, columns = values.shape
    if not rows * columns:
        return count.clone()
    real = torch.arange(columns, device=count.device) < count[:, None]
    finite = (values.isfinite() | ~real).all(1)
    x = torch.where(real & finite[:, None], values, 0.0)
    low, high = (_fit(x, real, count)[..., i] for i in (0, 1))
    likelihood = torch.where((low >= high) & real, torch.logaddexp(low, high), -torch.inf)
    best, place = likelihood.max(1)
    fitted = finite & (count >= 2) & (best > -torch.inf)
    return torch.where(fitted, place + 1, count)


def _fit(x: Tensor, real: Tensor, count: Tensor) -> Tensor:
    """Fits the mixtures, and gives the logarithms of weight * density, (G, K, 2)."""
    size = count.clamp(min=1).to(x.dtype)[:, None]
    last = x.gather(1, (count.clamp(min=1) - 1)[:, None])
    mean = torch.cat((x[:, :1], last), 1)[:, None]  # (G, 1, 2), as root and weight
    root, weight = torch.ones_like(mean), torch.full_like(mean, 0.5)
    bound = x.new_full(size.shape, -torch.inf)
    moving = torch.ones_like(bound, dtype=torch.bool)
    for _ in range(ITERATIONS):
        if x.device.type == "cpu" and not moving.any():  # other devices would have to wait
            break
        density = _log_density(x, mean, root, weight)
        total = density.logsumexp(-1, keepdim=True)
        share = torch.where(real[..., None], (density - total).exp(), 0.0)
        now = torch.where(real, total[..., 0], 0.0).sum(1, keepdim=True) / size
        found = _maximize(x, share, size)
        mean, root, weight = (
            torch.where(moving[..., None], new, old)
            for new, old in zip(found, (mean, root, weight), strict=True)
        )
        moving &= ~((now - bound).abs() < TOLERANCE)
        bound = now
    return _log_density(x, mean, root, weight)


def _log_density(x: Tensor, mean: Tensor, root: Tensor, weight: Tensor) -> Tensor:
    """Gives log(weight * density), (G, K, 2).

    Args:
        root: square root of the precision, (G, 1, 2).
    """
    distance = ((x[..., None] - mean) * root).square()
    return -0.5 * distance - math.log(2 * math.pi) / 2 + (root.log() + weight.log())


def _maximize(x: Tensor, share: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gives mean, square root of the precision and weight, (G, 1, 2) each, for shares (G, K, 2)."""
    total = share.sum(1, keepdim=True) + 10 * torch.finfo(x.dtype).eps
    mean = (share * x[..., None]).sum(1, keepdim=True) / total
    variance = (share * (x[..., None] - mean).square()).sum(1, keepdim=True) / total
    return mean, (variance + MIN_VARIANCE).rsqrt(), total / size[..., None]


LOW_COMPONENT = define(
    "low_component(Tensor values, Tensor count) -> Tensor",
    low_component,
    lambda values, count: torch.empty_like(count),
)
