"""Averages the numbers of a line of the log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from dynamic_atss.engine.report import added, mean


class LogAverages:
    """Adds loss terms, metrics and times since the last line of the log.

    It is part of a run's state, so that a resumed run averages the same iterations as one that was
    not interrupted.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._start, self._spent = time.perf_counter(), 0.0
        self._count = 0
        self._data_time = 0.0
        self._sums: dict[str, float] = {}
        self._metrics: dict[str, list[float]] = {}

    @property
    def count(self) -> int:
        """Counts the iterations since the last line."""
        return self._count

    def add(
        self, losses: Mapping[str, float], metrics: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """Adds the loss terms and metrics of an iteration.

        A metric is a number, or a sum and a count.
        """
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._metrics = added(self._metrics, metrics or {})

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Counts the time of the block as `data_time`."""
        start = time.perf_counter()
        yield
        self._data_time += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time of the block, such as a test, from the time of the training."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def start(self) -> None:
        """Starts the clock after the start-up. Adds the time that was spent before a resume."""
        self._start = time.perf_counter() - self._spent

    def close(self, device: torch.device) -> dict[str, float]:
        """Gives the means over the iterations since the last line, and starts the next line.

        Times are in seconds. The mean of a metric with a count is the sum divided by the count.
        """
        seconds = time.perf_counter() - self._start
        terms = {name: value / self._count for name, value in self._sums.items()}
        line = {
            "loss": sum(terms.values()),
            **terms,
            **{name: mean(sums, self._count) for name, sums in self._metrics.items()},
            "time": seconds / self._count,
            "data_time": self._data_time / self._count,
            "max_mem_mb": round(_peak_mb(device)),
        }
        self._reset()
        return line

    def state_dict(self) -> dict[str, Any]:
        return {
            "count": self._count,
            "seconds": time.perf_counter() - self._start,
            "data_time": self._data_time,
            "sums": dict(self._sums),
            "metrics": dict(self._metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._count, self._sums = state["count"], dict(state["sums"])
        self._data_time, self._spent = state["data_time"], state["seconds"]
        self._metrics = dict(state.get("metrics", {}))  # older checkpoints have none


def _peak_mb(device: torch.device) -> float:
    """Gives the largest memory so far in MiB, of the GPU or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
