"""Averages weights exponentially, and measures the distance to the trained weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_RAMP = 10


class WeightAverage(AveragedModel):
    """Averages a model exponentially by `update_parameters`, without waiting for its device.

    The base class copies its count to the device at each update, which waits for it.

    Args:
        decay, ramp: see `averaged_model`.
    """

    def __init__(self, model: nn.Module, decay: float, ramp: bool) -> None:
        super().__init__(model, use_buffers=True)
        self._decay, self._ramp = decay, ramp

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Averages the floating-point tensors. Copies the others, and all in the first call."""
        updates = int(self.n_averaged)  # on the host
        decay = decay_at(updates, self._decay) if self._ramp else self._decay
        pairs: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
        for averaged, current in zip(_tensors(self.module), _tensors(model), strict=True):
            pairs.setdefault(averaged.dtype, []).append((averaged, current))
        for dtype, of_type in pairs.items():
            averages, values = map(list, zip(*of_type, strict=True))
            if updates and dtype.is_floating_point:
                torch._foreach_lerp_(averages, values, 1 - decay)
            else:
                torch._foreach_copy_(averages, values)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> Iterable[Tensor]:
    return itertools.chain(model.parameters(), model.buffers())


def averaged_model(model: nn.Module, decay: float, *, ramp: bool = False) -> WeightAverage | None:
    """Makes an exponential moving average of a model's weights; None for decay 0.

    Averages floating-point buffers, too, because they are running statistics. Copies the other
    buffers, which are counters.

    Args:
        decay: the share of the average that an update keeps.
        ramp: True lets the decay rise to `decay`, see `decay_at`. Without it, the average of a run
            of fewer than about 1 / (1 - decay) iterations consists mostly of its first weights.
    """
    return WeightAverage(model, decay, ramp).requires_grad_(False) if decay else None


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
