"""Two Gaussians on a line, fitted to many short rows of numbers at once.

Expectation and maximisation as in scikit-learn's `GaussianMixture` (float64, its tolerance of 1e-3
of the mean log likelihood, at most 100 rounds, 1e-6 added to the variances), begun with the
smallest and the largest number as the means, weights of a half and variances of 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynamic_atss.ops.library import define

ITERATIONS = 100
TOLERANCE = 1e-3
LEAST_VARIANCE = 1e-6


def low_component(values: Tensor, count: Tensor) -> Tensor:
    """(G,) int64: how many numbers of each row lie before the likeliest of those that are rather of
    the lower Gaussian, and it. All of them where none is, where there are fewer than two, and where
    one is not finite.

    Args:
        values: (G, K) float64, rising; beyond a row's count anything.
        count: (G,) int64, 0..K.
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
    """(G, K, 2): the logarithms of weight times density at the end."""
    size = count.clamp(min=1).to(x.dtype)[:, None]
    last = x.gather(1, (count.clamp(min=1) - 1)[:, None])
    mean = torch.cat((x[:, :1], last), 1)[:, None]  # (G, 1, 2), as the others
    root, weight = torch.ones_like(mean), torch.full_like(mean, 0.5)
    bound = x.new_full(size.shape, -torch.inf)
    moving = torch.ones_like(bound, dtype=torch.bool)
    for _ in range(ITERATIONS):
        if x.device.type == "cpu" and not moving.any():  # no wait for another device
            break
        density = _log_density(x, mean, root, weight)
        whole = density.logsumexp(-1, keepdim=True)
        share = torch.where(real[..., None], (density - whole).exp(), 0.0)
        now = torch.where(real, whole[..., 0], 0.0).sum(1, keepdim=True) / size
        found = _maximize(x, share, size)
        mean, root, weight = (
            torch.where(moving[..., None], new, old)
            for new, old in zip(found, (mean, root, weight), strict=True)
        )
        moving &= ~((now - bound).abs() < TOLERANCE)
        bound = now
    return _log_density(x, mean, root, weight)


def _log_density(x: Tensor, mean: Tensor, root: Tensor, weight: Tensor) -> Tensor:
    """(G, K, 2), of the weight times the density; `root` is that of the precision."""
    distance = ((x[..., None] - mean) * root).square()
    return -0.5 * distance - math.log(2 * math.pi) / 2 + (root.log() + weight.log())


def _maximize(x: Tensor, share: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, root of the precision and weight (G, 1, 2) of the numbers with these shares (G, K,
    2)."""
    total = share.sum(1, keepdim=True) + 10 * torch.finfo(x.dtype).eps
    mean = (share * x[..., None]).sum(1, keepdim=True) / total
    variance = (share * (x[..., None] - mean).square()).sum(1, keepdim=True) / total
    return mean, (variance + LEAST_VARIANCE).rsqrt(), total / size[..., None]


LOW_COMPONENT = define(
    "low_component(Tensor values, Tensor count) -> Tensor",
    low_component,
    lambda values, count: torch.empty_like(count),
)
