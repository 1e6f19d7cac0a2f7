"""Shares the losses, metrics and stop signals of an iteration in one collective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynamic_atss.engine import distributed
from dynamic_atss.engine.names import Names
from dynamic_atss.errors import LostProcessError, UserError
from dynamic_atss.modeling.terms import Terms

# Names of a line of the log that metrics must not use.
RESERVED = ("iteration", "loss", "lr", "time", "data_time", "max_mem_mb", "dataset")

_CODES = (UserError.exit_code, LostProcessError.exit_code)


class Status(NamedTuple):
    """Describes an iteration over all processes.

    Attributes:
        losses: the mean of each loss term, by name.
        metrics: the mean of each metric, by name: a number, or a sum and a count.
        gradient: the mean norm of the gradient.
        stopping: True if a process has received a stop signal.
        failed: the exit code of a process whose data could not be read; 0: none.
    """

    losses: dict[str, float]
    metrics: dict[str, tuple[float, ...]]
    gradient: float
    stopping: bool
    failed: int

    @property
    def finite(self) -> bool:
        """Returns True if the step can be taken. It is the same on every process."""
        return all(map(math.isfinite, (self.gradient, *self.losses.values())))


class Report:
    """Holds loss terms and metrics of an iteration on this process.

    Attributes:
        loss: the sum of the loss terms, with gradient.

    Raises:
        UserError: a name or a number is not allowed.
    """

    def __init__(self, terms: Terms, names: Names) -> None:
        """Checks and adds up the terms.

        Args:
            terms: the losses and metrics of the iteration.
            names: the names of the run, with which the terms are compared.
        """
        _check_reserved(terms.metrics)
        losses = torch.stack(list(terms.losses.values()))
        numbers = [_numbers(name, x, losses) for name, x in terms.metrics.items()]
        self._losses = list(terms.losses)
        self._metrics = dict(zip(terms.metrics, map(len, numbers), strict=True))
        names.check(dict.fromkeys(self._losses, 1) | self._metrics)
        self._values = torch.cat((losses.detach(), *numbers))
        self.loss = losses.sum()

    def status(self, gradient: Tensor, stopping: bool, failed: int) -> Status:
        """Averages over the processes. It is one collective: call it in every step, on all.

        Args:
            gradient: the norm of the gradient.
            stopping, failed: as in `Status`, for this process.
        """
        # They are made on the device. A copy from the host would wait for it. Only `tolist` should.
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
    """Raises UserError for names that the log uses already."""
    if taken := sorted(set(RESERVED) & metrics.keys()):
        raise UserError(f"metric {taken[0]!r}: the log has a number of that name; rename it")


def _numbers(name: str, value: Any, like: Tensor) -> Tensor:
    """Converts a metric to a tensor (1,) or (2,), without gradient."""
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
    """Gives the mean of a metric whose numbers were added over `count` iterations."""
    if len(sums) == 1:
        return sums[0] / count
    return sums[0] / sums[1] if sums[1] else 0.0


def added(sums: Mapping[str, Sequence[float]], more: Mapping[str, Sequence[float]]) -> dict:
    """Adds two sets of metrics, number by number."""
    return dict(sums) | {
        name: [a + b for a, b in zip(sums.get(name, [0.0] * len(x)), x, strict=True)]
        for name, x in more.items()
    }
