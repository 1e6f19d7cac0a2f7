"""What a line of the log averages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import torch


class Window:
    """Loss terms and times since the last line of the log.

    It is a part of a run's state: a resumed run's lines average the same iterations as an
    uninterrupted one's.
    """

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._start, self._spent = time.perf_counter(), 0.0
        self._count = 0
        self._data_time = 0.0
        self._sums: dict[str, float] = {}

    def add(self, losses: dict[str, float]) -> None:
        """The loss terms of one iteration."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    @contextlib.contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """What happens inside counts as `data_time`."""
        start = time.perf_counter()
        yield
        self._data_time += time.perf_counter() - start

    def start(self) -> None:
        """Time counts from now on, beside what was spent before a resume; start-up does not."""
        self._start = time.perf_counter() - self._spent

    def close(self, device: torch.device) -> dict[str, float]:
        """Means over the window's iterations, times in seconds; the next window starts."""
        seconds = time.perf_counter() - self._start
        terms = {name: value / self._count for name, value in self._sums.items()}
        line = {
            "loss": sum(terms.values()),
            **terms,
            "time": seconds / self._count,
            "data_time": self._data_time / self._count,
            "max_mem_mb": round(_peak_mb(device)),
        }
        self._open()
        return line

    def state_dict(self) -> dict[str, Any]:
        return {
            "count": self._count,
            "seconds": time.perf_counter() - self._start,
            "data_time": self._data_time,
            "sums": dict(self._sums),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._count, self._sums = state["count"], dict(state["sums"])
        self._data_time, self._spent = state["data_time"], state["seconds"]


def _peak_mb(device: torch.device) -> float:
    """Largest memory so far in MiB: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
