"""The worker processes of a loader: how they start, what their end means, how they are ended."""

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

from dynamic_atss.data.views import Failure
from dynamic_atss.errors import Lost, UserError
from dynamic_atss.processes import SIGNALS, end_with_parent, within
from dynamic_atss.system_limits import end_of_workers, limit_reached

_SECONDS_AFTER_SIGTERM = 60
_SECONDS_TO_END = 3  # for all workers of a pass, which hold nothing of value then
_STATES = {"T": ", which is stopped", "D": ", which waits for a disk or a file system"}


class Workers:
    """The workers of one pass over the data, which end with the block.

    An error inside that means a limit of the system, or a worker that has ended by itself, becomes
    a UserError.
    """

    def __init__(self) -> None:
        self._batches: Any = None
        self._processes: list[BaseProcess] = []

    def batches(self, loader: DataLoader, most: float) -> Iterator[Any]:
        """The loader's batches.

        Raises:
            Lost: one of the workers has not given its batch in `most` seconds, those apart in which
                this process itself was stopped.
        """
        self._start(loader)
        for count in itertools.count():
            try:
                with within(most, partial(self._late, count, most)):
                    batch = next(self._batches)
            except StopIteration:
                return
            yield batch

    def _late(self, count: int, seconds: float) -> NoReturn:
        if not self._processes:
            raise Lost(f"no batch has been read for {seconds:g} s (of SOLVER.TIMEOUT)")
        workers = self._batches._workers
        worker = count % len(workers)  # they take turns
        raise Lost(
            f"loader worker {worker} ({_described(workers[worker].pid)}) has given no batch for "
            f"{seconds:g} s (of SOLVER.TIMEOUT)"
        )

    def _start(self, loader: DataLoader) -> None:
        others = set(multiprocessing.active_children())
        try:
            with _signals_held_back(), _ends_told_by_the_next_batch():
                self._batches = iter(loader)
        finally:
            self._processes = [p for p in multiprocessing.active_children() if p not in others]
        # At an exit in the middle, too: workers do not obey the SIGTERM that Python would send.
        atexit.register(self._kill)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told = None
        if isinstance(error, Exception) and not isinstance(error, UserError):
            told = end_of_workers(self._exit_codes(error)) or limit_reached(error)
        atexit.unregister(self._kill)
        if error is not None and kind is not GeneratorExit:  # perhaps since they do not go on
            self._kill()
        self._stop()
        if told:
            raise UserError(told) from error

    def _exit_codes(self, error: Exception) -> list[int | None]:
        """None: it runs."""
        if isinstance(error, OSError | EOFError):  # perhaps of a worker that is about to end
            ended = wait([p.sentinel for p in self._processes], timeout=1.0)
            for process in self._processes:
                if process.sentinel in ended:
                    process.join()  # its code comes a moment after its sentinel
        return [process.exitcode for process in self._processes]

    def _stop(self) -> None:
        # The iterator without workers has none; when Python ends, no thread starts any more.
        if hasattr(self._batches, "_shutdown_workers") and not sys.is_finalizing():
            # In a thread: it waits for a worker that stands still, or for a lock that one held
            # when it was killed.
            orderly = threading.Thread(target=self._batches._shutdown_workers, daemon=True)
            orderly.start()
            orderly.join(_SECONDS_TO_END)
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            if process.is_alive():
                process.kill()


def _described(pid: int) -> str:
    """A process, where it is, and what keeps it, as far as the system tells."""
    state = ""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        state = _STATES.get(stat.rpartition(")")[2].split()[0], "")
    return f"process {pid} on {socket.gethostname()}{state}"


def start_worker(_: int) -> None:
    """One thread each, a minute of life after SIGTERM, and an end with the main process.

    A signal to the whole process group, as a terminal's Ctrl-C or the launcher's SIGTERM, must not
    end the workers before the main process has saved its checkpoint and ends them itself.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    Queue._on_queue_feeder_error = _pass_on  # type: ignore[attr-defined]  # meant to be replaced
    end_with_parent()
    signal.set_wakeup_fd(-1)  # the main process's
    for number in set(SIGNALS) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_AFTER_SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see _signals_held_back


def _pass_on(queue: Queue, error: Exception, item: tuple[int, Any]) -> None:
    """A batch that cannot be handed over is told in its place; Python would print a traceback and
    leave the main process to wait for it."""
    reason = limit_reached(error) or f"a loader worker cannot hand over its batch: {error!r}"
    queue.put((item[0], Failure(reason)))


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Workers that are forked inside get a signal when they are ready for it, not before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _ends_told_by_the_next_batch() -> Iterator[None]:
    """Takes back the handler by which torch tells of a dead worker at once, be it in the middle of
    a step: the batch that it owes tells as well, within seconds, and the run can still be saved."""
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
