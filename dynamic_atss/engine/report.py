"""What the processes know of an iteration, told to all in one collective and one wait."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.engine import distributed
from dynamic_atss.engine.names import Names
from dynamic_atss.errors import Lost, UserError
from dynamic_atss.modeling.terms import Terms

# What else stands in a line of the log.
RESERVED = ("iteration", "loss", "lr", "time", "data_time", "max_mem_mb", "dataset")

_CODES = (UserError.exit_code, Lost.exit_code)


class Status(NamedTuple):
    """Means over the processes.

    losses, by name · metrics, by name: a number, or a sum and a count · gradient: its norm ·
    stopping: a signal came to one · failed: the exit code of one whose data are missing, else 0
    """

    losses: dict[str, float]
    metrics: dict[str, tuple[float, ...]]
    gradient: float
    stopping: bool
    failed: int

    @property
    def finite(self) -> bool:
        """Whether the step can be taken; the same on every process."""
        return all(map(math.isfinite, (self.gradient, *self.losses.values())))


class Report:
    """Loss terms and metrics of an iteration, as this process has them.

    loss: their sum, for the gradient

    Raises:
        UserError: a name or a number that does not fit.
    """

    def __init__(self, terms: Terms, names: Names) -> None:
        """names: those of the run, which every iteration is compared with."""
        _check_reserved(terms.metrics)
        losses = torch.stack(list(terms.losses.values()))
        numbers = [_numbers(name, x, losses) for name, x in terms.metrics.items()]
        self._losses = list(terms.losses)
        self._metrics = dict(zip(terms.metrics, map(len, numbers), strict=True))
        names.check(dict.fromkeys(self._losses, 1) | self._metrics)
        self._values = torch.cat((losses.detach(), *numbers))
        self.loss = losses.sum()

    def status(self, gradient: Tensor, stopping: bool, failed: int) -> Status:
        """One collective, in every step, with and without boxes.

        gradient: its norm · stopping, failed: as in `Status`, of this process
        """
        # Filled on the device: a copy of them would wait for it, which only the report is to do.
        stop = [self._values.new_full((1,), x) for x in (stopping, *(failed == c for c in _CODES))]
        norm = gradient.detach().to(self._values).reshape(1)
        with distributed.waiting():
            report = distributed.average(torch.cat((self._values, norm, *stop))).tolist()
        *values, mean_norm, any_stopping = report[: -len(_CODES)]
        any_failed = next((c for c, x in zip(_CODES, report[-len(_CODES) :], strict=True) if x), 0)
        numbers = iter(values)
        losses = {name: next(numbers) for name in self._losses}
        metrics = {n: tuple(next(numbers) for _ in range(k)) for n, k in self._metrics.items()}
        return Status(losses, metrics, mean_norm, any_stopping > 0, any_failed)


def _check_reserved(metrics: Mapping[str, Any]) -> None:
    """Raises UserError for names that the log has already."""
    if taken := sorted(set(RESERVED) & metrics.keys()):
        raise UserError(f"metric {taken[0]!r}: the log has a number of that name; rename it")


def _numbers(name: str, value: Any, like: Tensor) -> Tensor:
    """(1,) or (2,): a metric, without gradient."""
    needed = "give one number, or a sum and a count"
    if isinstance(value, Tensor):
        if value.numel() not in (1, 2):
            raise UserError(f"metric {name!r}: has shape {tuple(value.shape)}; {needed}")
        return value.detach().to(like.dtype).flatten()
    numbers = list(value) if isinstance(value, tuple | list) else [value]
    if len(numbers) not in (1, 2) or not all(isinstance(x, Real) for x in numbers):
        raise UserError(f"metric {name!r}: is {value!r}; {needed}")
    return torch.cat([like.new_full((1,), float(x)) for x in numbers])


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
