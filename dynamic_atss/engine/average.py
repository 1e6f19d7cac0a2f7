"""Averaged weights: an exponential moving average, and how far it lies from what was trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_RAMP = 10


def averaged_model(model: nn.Module, decay: float, *, ramp: bool = False) -> AveragedModel | None:
    """An exponential moving average of weights and of floating-point buffers, which are running
    statistics; the other buffers, which count, are copied. None for decay 0.

    Args:
        decay: the share of the average that an update keeps.
        ramp: the decay begins small and rises to `decay`, see `decay_at`. Without it, a run of
            fewer than some 1 / (1 - decay) iterations ends with an average of its first weights.
    """
    if not decay:
        return None

    def update(averaged: Any, current: Any, _: object) -> None:
        if not averaged[0].is_floating_point():  # tensors come one type at a time
            torch._foreach_copy_(averaged, current)
            return
        # The count comes as a tensor of the weights' device, too, which nothing should wait for.
        rate = decay_at(int(average.n_averaged), decay) if ramp else decay
        get_ema_multi_avg_fn(rate)(averaged, current, None)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average.requires_grad_(False)


def decay_at(updates: int, decay: float) -> float:
    """The decay after `updates` updates: min(decay, (1 + n) / (10 + n)).

    The average reaches back over the last ninth of the run, until 1 / (1 - decay) iterations are
    less than that.
    """
    return min(decay, (1 + updates) / (_RAMP + updates))


@torch.no_grad()
def distance(averaged: nn.Module, trained: nn.Module) -> float:
    """The norm of the difference of all parameters, by the norm of the trained ones."""
    pairs = list(zip(averaged.parameters(), trained.parameters(), strict=True))
    apart = _norm([a.double() - b.double() for a, b in pairs])
    return apart / max(_norm([b.double() for _, b in pairs]), torch.finfo(torch.float64).tiny)


def _norm(tensors: list[Tensor]) -> float:
    return sum(float(x.square().sum()) for x in tensors) ** 0.5
