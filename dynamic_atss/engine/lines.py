"""The lines of the log while training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta

from dynamic_atss.engine.report import RESERVED
from dynamic_atss.modeling.assignment_metrics import is_of_assignment

_NEWEST = 0.3  # share of the newest line in the speed that the time left is reckoned with


class Clock:
    """Starts when it is made; its text is the time since then, in hours, minutes and seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __str__(self) -> str:
        return str(timedelta(seconds=round(time.monotonic() - self._start)))


class Lines:
    """Writes a line of numbers as text: with units, in the same order each time.

    Metrics of the assignment are left out, as a line would be twice as long; `metrics.jsonl` and
    TensorBoard have them. Those of a user's own rule or criterion are there.
    """

    def __init__(self, last: int, images: int) -> None:
        """last: the run's last iteration · images: of an iteration, over all processes."""
        self._last, self._images = last, images
        self._seconds = math.nan  # of an iteration, smoothed
        self._order: dict[str, None] = {}

    def text(self, iteration: int, values: Mapping[str, float]) -> str:
        """values: what `Window.close` gives, and `lr`."""
        seconds = values["time"]
        speed = self._images / seconds if seconds else 0.0
        waiting = 100 * values["data_time"] / seconds if seconds else 0.0
        parts = (
            f"iteration {iteration:>{len(str(self._last))}}/{self._last}",
            f"loss {_number(values['loss'])}{self._terms(values)}",
            f"lr {values['lr']:.2e}",
            f"{rate(speed)} images/s",
            f"data {waiting:.0f} %",
            f"{values['max_mem_mb'] / 1024:.1f} GiB",
            f"ETA {self._left(iteration, seconds)}",
        )
        return "  ".join(parts)

    def _terms(self, values: Mapping[str, float]) -> str:
        """The terms of the loss in brackets, then the user's own metrics."""
        self._order.update(dict.fromkeys(values))
        own = [n for n in self._order if n in values and n not in RESERVED]
        losses = [f"{_short(n)} {_number(values[n])}" for n in own if is_loss(n)]
        rest = [n for n in own if not is_loss(n) and not is_of_assignment(n)]
        metrics = [f"  {name} {_number(values[name])}" for name in rest]
        return (f" ({', '.join(losses)})" if losses else "") + "".join(metrics)

    def _left(self, iteration: int, seconds: float) -> timedelta:
        known = seconds if math.isnan(self._seconds) else self._seconds
        self._seconds = _NEWEST * seconds + (1 - _NEWEST) * known
        return timedelta(seconds=round((self._last - iteration) * self._seconds))


def first_text(iteration: int, last: int, loss: float, images: int, seconds: float) -> str:
    """The line after the first iteration, on its own: on a slow machine the first full line takes
    minutes. seconds: of this iteration, with what happens only once, as the workers' start."""
    left = timedelta(seconds=round((last - iteration) * seconds))
    speed = images / seconds if seconds else 0.0
    return (
        f"iteration {iteration}/{last}  loss {_number(loss)}  {rate(speed)} images/s  ETA {left} "
        "(by the first iteration, which also starts things)"
    )


def rate(speed: float) -> str:
    """A number per second: one digit after the point, or two digits that count below 1."""
    return f"{speed:.1f}" if speed >= 1 or not speed else f"{speed:.2g}"


def is_loss(name: str) -> bool:
    """Whether a number of a line is the loss or a term of it, also of a branch."""
    own = name.rpartition("/")[2]
    return own == "loss" or own.startswith("loss_")


def _short(name: str) -> str:
    return name.replace("loss_", "", 1)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.4g}"
