"""Starts the worker processes of a loader, reports their failures, and ends them."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import multiprocessing
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import cv2
import torch
from torch.utils.data import DataLoader

from dynamic_atss.data.transformed_samples import Failure
from dynamic_atss.errors import LostProcessError, UserError
from dynamic_atss.processes import SIGNALS, end_with_parent, signals_blocked, within
from dynamic_atss.system_limits import end_of_workers, limit_reached

_SECONDS_AFTER_SIGTERM = 60
_SECONDS_TO_END = 3  # for all workers of a pass; they have nothing to save
_STATES = {"T": ", stopped", "D": ", waiting for a disk or a file system"}


class Workers:
    """Manages the workers of one pass over the data. Ends them when the `with` block ends.

    Converts errors inside the block to a UserError if the cause is a limit of the system or a dead
    worker.
    """

    def __init__(self) -> None:
        self._batches: Any = None
        self._processes: list[BaseProcess] = []

    def batches(self, loader: DataLoader, timeout: float) -> Iterator[Any]:
        """Yields the loader's batches.

        Raises:
            LostProcessError: if a worker did not return its batch within `timeout` seconds. Seconds
                in which this process was stopped do not count.
        """
        self._start(loader)
        for count in itertools.count():
            try:
                with within(timeout, partial(self._raise_late, count, timeout)):
                    batch = next(self._batches)
            except StopIteration:
                return
            yield batch

    def _raise_late(self, count: int, seconds: float) -> NoReturn:
        if not self._processes:
            raise LostProcessError(f"no batch was read for {seconds:g} s (SOLVER.TIMEOUT)")
        workers = self._batches._workers
        worker = count % len(workers)  # workers take turns
        raise LostProcessError(
            f"loader worker {worker} ({_described(workers[worker].pid)}) returned no batch for "
            f"{seconds:g} s (SOLVER.TIMEOUT)"
        )

    def _start(self, loader: DataLoader) -> None:
        others = set(multiprocessing.active_children())
        try:
            with signals_blocked(), _dead_workers_reported_by_next_batch():
                self._batches = iter(loader)
        finally:
            self._processes = [p for p in multiprocessing.active_children() if p not in others]
        # Kill them at a sudden exit, too. Workers do not obey the SIGTERM that Python would send.
        atexit.register(self._kill)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        message = None
        if isinstance(error, Exception) and not isinstance(error, UserError):
            message = end_of_workers(self._exit_codes(error)) or limit_reached(error)
        atexit.unregister(self._kill)
        if error is not None and kind is not GeneratorExit:  # workers may be blocked
            self._kill()
        self._stop()
        if message:
            raise UserError(message) from error

    def _exit_codes(self, error: Exception) -> list[int | None]:
        """Returns the exit code of each worker. It is None for a worker that is running."""
        if isinstance(error, OSError | EOFError):  # a worker may be about to end
            ended = wait([p.sentinel for p in self._processes], timeout=1.0)
            for process in self._processes:
                if process.sentinel in ended:
                    process.join()  # the code is set a moment after the sentinel
        return [process.exitcode for process in self._processes]

    def _stop(self) -> None:
        # An iterator without workers lacks the method. No thread can start when Python ends.
        if hasattr(self._batches, "_shutdown_workers") and not sys.is_finalizing():
            # A thread does it, as it may wait for a blocked worker or for the lock of a killed one.
            shutdown = threading.Thread(target=self._batches._shutdown_workers, daemon=True)
            shutdown.start()
            shutdown.join(_SECONDS_TO_END)
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()


def _described(pid: int) -> str:
    """Describes a process: its id, its host, and if it is stopped or waits for a disk."""
    state = ""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        state = _STATES.get(stat.rpartition(")")[2].split()[0], "")
    return f"process {pid} on {socket.gethostname()}{state}"


def start_worker(_: int) -> None:
    """Sets up a worker process.

    It uses one thread, lives for up to a minute after SIGTERM, and ends with the main process. A
    signal to the process group, such as Ctrl-C in a terminal or the launcher's SIGTERM, must not
    end the workers before the main process has saved its checkpoint.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    Queue._on_queue_feeder_error = _pass_on  # type: ignore[attr-defined]  # made for replacement
    end_with_parent()
    signal.set_wakeup_fd(-1)  # the descriptor belongs to the main process
    for number in set(SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_AFTER_SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # `_start` blocks them until here


def _pass_on(queue: Queue, error: Exception, item: tuple[int, Any]) -> None:
    """Sends a failure in place of a batch that cannot be sent.

    Python would print a traceback, and the main process would wait for the batch.
    """
    reason = limit_reached(error) or f"a loader worker cannot send its batch: {error!r}"
    queue.put((item[0], Failure(reason)))


@contextlib.contextmanager
def _dead_workers_reported_by_next_batch() -> Iterator[None]:
    """Restores the handler of SIGCHLD, with which torch would raise in the middle of a step.

    A dead worker is reported within seconds by its missing batch, too. The run can then be saved.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
