"""Formats the lines of the log during a training."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta

from dynamic_atss.engine.report import RESERVED
from dynamic_atss.modeling.assignment_metrics import is_of_assignment

_NEWEST = 0.3  # share of the newest line in the smoothed speed


class Clock:
    """Measures the time since it was made. Its text is in hours, minutes and seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __str__(self) -> str:
        return str(timedelta(seconds=round(time.monotonic() - self._start)))


class LogFormatter:
    """Formats numbers as a line of text with units, always in the same order.

    Metrics of the assignment are left out, because they would double the length of a line.
    `metrics.jsonl` and TensorBoard have them. Metrics of a user's rule or criterion are shown.
    """

    def __init__(self, last: int, images: int) -> None:
        """Prepares the formatter for a run.

        Args:
            last: the last iteration of the run.
            images: images per iteration, over all processes.
        """
        self._last, self._images = last, images
        self._seconds = math.nan  # per iteration, smoothed
        self._order: dict[str, None] = {}

    def text(self, iteration: int, values: Mapping[str, float]) -> str:
        """Formats a line.

        Args:
            values: those of `LogAverages.close`, and `lr`.
        """
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
        """Formats the terms of the loss, in brackets, and the user's metrics."""
        self._order.update(dict.fromkeys(values))
        names = [n for n in self._order if n in values and n not in RESERVED]
        losses = [f"{_short(n)} {_number(values[n])}" for n in names if is_loss(n)]
        user_metrics = [n for n in names if not is_loss(n) and not is_of_assignment(n)]
        metrics = [f"  {name} {_number(values[name])}" for name in user_metrics]
        return (f" ({', '.join(losses)})" if losses else "") + "".join(metrics)

    def _left(self, iteration: int, seconds: float) -> timedelta:
        known = seconds if math.isnan(self._seconds) else self._seconds
        self._seconds = _NEWEST * seconds + (1 - _NEWEST) * known
        return timedelta(seconds=round((self._last - iteration) * self._seconds))


def first_text(iteration: int, last: int, loss: float, images: int, seconds: float) -> str:
    """Formats the line after the first iteration, because the first full line can take minutes.

    Args:
        seconds: the time of this iteration, which includes the start of the workers.
    """
    left = timedelta(seconds=round((last - iteration) * seconds))
    speed = images / seconds if seconds else 0.0
    return (
        f"iteration {iteration}/{last}  loss {_number(loss)}  {rate(speed)} images/s  ETA {left} "
        "(by the first iteration, which is slower)"
    )


def rate(speed: float) -> str:
    """Formats a number per second: with one decimal, or with two significant digits below 1."""
    return f"{speed:.1f}" if speed >= 1 or not speed else f"{speed:.2g}"


def is_loss(name: str) -> bool:
    """Returns True if a number is the loss or a term of it.

    Branches have names "<branch>/<name>".
    """
    last_part = name.rpartition("/")[2]
    return last_part == "loss" or last_part.startswith("loss_")


def _short(name: str) -> str:
    return name.replace("loss_", "", 1)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.4g}"
