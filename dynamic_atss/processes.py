"""How processes end: by a signal, with the one that started them, at once, or when late."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

# Windows has only the first two.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """The system sends this process that signal when the thread that started it has ended, however
    that was: with its process at the latest. Without effect where there is no such service (Linux
    has it)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def end_with_launcher() -> None:
    """SIGTERM when torchrun's agent, which started this process, is gone.

    Else its processes would train on when it is killed, and nobody would know of them. A process
    that a shell started, perhaps to outlive it, is left alone.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGTERM)
        if os.getppid() == 1 and not _started_by_first():  # it was gone before
            os.kill(os.getpid(), signal.SIGTERM)


def _started_by_first() -> bool:
    """Whether process 1 is the launcher, as in a container: its command names this program."""
    try:
        first = Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return True
    return any(os.fsencode(name) in first for name in _program())


def _program() -> tuple[str, ...]:
    """What a launcher was told to start: a file, or a package (of which it may be a command)."""
    path = Path(sys.argv[0])
    package = path.parent.name
    return (package, package.replace("_", "-")) if path.name == "__main__.py" else (sys.argv[0],)


@contextlib.contextmanager
def within(seconds: float, late: Callable[[], NoReturn]) -> Iterator[None]:
    """`late`, which raises, is called in the middle of what is done inside once that has taken so
    long; the time in which this process was stopped does not count.

    A timer and not a limit of a call: a read from a process that stands still has none. In a thread
    that is not the main one, and where the system has no such timer (Windows), there is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    left = math.ceil(seconds)

    def tick(*_: Any) -> None:  # once, after a stop of any length
        nonlocal left
        left -= 1
        if left <= 0:
            late()

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def end_at_once(code: int) -> NoReturn:
    """Ends without taking the process group apart: that aborts where the other processes have ended
    and closed their connections. Loader workers, which Python would stop, are stopped here."""
    for worker in multiprocessing.active_children():
        worker.kill()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
