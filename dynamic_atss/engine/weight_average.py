"""Averages weights exponentially, and measures the distance to the trained weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_RAMP = 10


def averaged_model(model: nn.Module, decay: float, *, ramp: bool = False) -> AveragedModel | None:
    """Makes an exponential moving average of a model's weights; None for decay 0.

    Averages floating-point buffers, too, because they are running statistics. Copies the other
    buffers, which are counters.

    Args:
        decay: the share of the average that an update keeps.
        ramp: True lets the decay rise to `decay`, see `decay_at`. Without it, the average of a run
            of fewer than about 1 / (1 - decay) iterations consists mostly of its first weights.
    """
    if not decay:
        return None

    def update(averaged: Any, current: Any, _: object) -> None:
        if not averaged[0].is_floating_point():  # all tensors of a call have the same type
            torch._foreach_copy_(averaged, current)
            return
        # The third argument is the same count on the device; reading it would wait for the device.
        rate = decay_at(int(average.n_averaged), decay) if ramp else decay
        get_ema_multi_avg_fn(rate)(averaged, current, None)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average.requires_grad_(False)


def decay_at(updates: int, decay: float) -> float:
    """Gives the decay after n = `updates` updates: min(decay, (1 + n) / (10 + n)).

    The average covers the last ninth of the run, or 1 / (1 - decay) iterations if that is less.
    """
    return min(decay, (1 + updates) / (_RAMP + updates))


@torch.no_grad()
def distance(averaged: nn.Module, trained: nn.Module) -> float:
    """Gives the norm of the difference of all parameters, divided by that of the trained ones."""
    pairs = list(zip(averaged.parameters(), trained.parameters(), strict=True))
    difference = _norm([a.double() - b.double() for a, b in pairs])
    norm = _norm([b.double() for _, b in pairs])
    return difference / max(norm, torch.finfo(torch.float64).tiny)


def _norm(tensors: list[Tensor]) -> float:
    return sum(float(x.square().sum()) for x in tensors) ** 0.5
