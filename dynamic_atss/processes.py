"""Ends processes: by a signal, together with their parent, at once, or after a time limit."""

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
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Asks the system to send signal `number` to this process when the thread that started it ends.

    Has no effect on systems other than Linux.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def end_with_launcher() -> None:
    """Ends this process by SIGTERM when torchrun's agent, which started it, has ended.

    Otherwise the processes would continue to train, unnoticed, after the agent was killed. Leaves
    alone a process that a shell started, because it may be meant to outlive the shell.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGTERM)
        if os.getppid() == 1 and not _launcher_is_first():  # the agent ended before this call
            os.kill(os.getpid(), signal.SIGTERM)


def _launcher_is_first() -> bool:
    """Returns True if process 1 is the launcher, as in a container.

    The command of process 1 then names this program.
    """
    try:
        first = Path("/proc/1/cmdline").read_bytes()
    except OSError:
        return True
    return any(os.fsencode(name) in first for name in _program())


def _program() -> tuple[str, ...]:
    """Gives the names under which a launcher may have started this program: a file or a package."""
    path = Path(sys.argv[0])
    package = path.parent.name
    return (package, package.replace("_", "-")) if path.name == "__main__.py" else (sys.argv[0],)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Blocks the stop signals in this thread. Processes that the block starts inherit that.

    Has no effect on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def within(seconds: float, late: Callable[[], NoReturn]) -> Iterator[None]:
    """Calls `late`, which must raise, if the block takes longer than `seconds`.

    The time in which this process was stopped does not count. A timer is used because a read from
    a process that does not respond has no time limit. There is no limit outside the main thread
    and on systems without such a timer (Windows).
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    left = math.ceil(seconds)

    def tick(*_: Any) -> None:  # called only once after a stop of any length
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
    """Ends this process with `code`, without destroying the process group.

    Destroying it aborts if other processes have closed their connections. Kills the loader workers,
    which Python would stop at a normal exit.
    """
    for worker in multiprocessing.active_children():
        worker.kill()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
