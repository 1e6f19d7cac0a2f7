"""What the processes know of an iteration, told to all in one collective and one wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.terms import Terms

# What else stands in a line of the log.
RESERVED = ("iteration", "loss", "lr", "time", "data_time", "max_mem_mb", "dataset")


class Status(NamedTuple):
    """Means over the processes.

    losses, by name · metrics, by name: a number, or a sum and a count · terminated: SIGTERM came ·
    data_failed: data are missing; of any process
    """

    losses: dict[str, float]
    metrics: dict[str, tuple[float, ...]]
    terminated: bool
    data_failed: bool


class Report:
    """Adds up the passes of an iteration, `passes` of them."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self._totals: list[Tensor] = []
        self._losses: list[str] = []
        self._metrics: dict[str, int] = {}

    def add(self, terms: Terms) -> Tensor:
        """The pass's share of the iteration's loss, for its gradient.

        Raises:
            UserError: a name or a number that does not fit.
        """
        check_terms(terms)
        losses = torch.stack(list(terms.losses.values())) / self._passes
        numbers = [_numbers(name, x, losses) for name, x in terms.metrics.items()]
        self._losses = list(terms.losses)
        self._metrics = {n: len(x) for n, x in zip(terms.metrics, numbers, strict=True)}
        metrics = torch.cat([losses.new_zeros(0), *numbers]) / self._passes
        self._totals.append(torch.cat((losses.detach(), metrics)))
        return losses.sum()

    def status(self, terminated: bool, data_failed: bool) -> Status:
        """One collective, on every step whatever the data."""
        # Filled on the device: a copy of them would wait for it, which only the report is to do.
        stop = [self._totals[0].new_full((1,), x) for x in (terminated, data_failed)]
        report = distributed.average(torch.cat((torch.stack(self._totals).sum(0), *stop)))
        *values, any_terminated, any_failed = report.tolist()
        numbers = iter(values)
        losses = {name: next(numbers) for name in self._losses}
        metrics = {n: tuple(next(numbers) for _ in range(k)) for n, k in self._metrics.items()}
        return Status(losses, metrics, any_terminated > 0, any_failed > 0)


def check_terms(terms: Terms) -> None:
    """Raises UserError for names that the log has already, and for losses that are no scalars."""
    for name in terms.metrics:
        if name in terms.losses:
            raise UserError(f"metric {name!r}: a loss term has that name; give it another one")
    for kind, names in (("loss term", terms.losses), ("metric", terms.metrics)):
        taken = sorted(set(RESERVED) & names.keys())
        if taken:
            raise UserError(f"{kind} {taken[0]!r}: the log has a number of that name; rename it")
    for name, value in terms.losses.items():
        if value.dim():
            raise UserError(f"loss term {name!r}: has shape {tuple(value.shape)}, not a scalar")


def _numbers(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """(1,) or (2,): a metric, without gradient."""
    if not isinstance(value, Tensor):
        return like.new_full((1,), value)
    if value.numel() not in (1, 2):
        raise UserError(
            f"metric {name!r}: has shape {tuple(value.shape)}; give one number, or a sum and a "
            "count"
        )
    return value.detach().to(like.dtype).flatten()


def mean(sums: Sequence[float], count: int) -> float:
    """Of a metric that was added up over `count` iterations."""
    if len(sums) == 1:
        return sums[0] / count
    return sums[0] / sums[1] if sums[1] else 0.0


def added(sums: Mapping[str, Sequence[float]], more: Mapping[str, Sequence[float]]) -> dict:
    """Both, number by number."""
    return dict(sums) | {
        name: [a + b for a, b in zip(sums.get(name, [0.0] * len(x)), x, strict=True)]
        for name, x in more.items()
    }
