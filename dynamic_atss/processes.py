"""How processes end: the signals that ask them to, and an end with the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

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


def end_at_once(code: int) -> NoReturn:
    """Ends without taking the process group apart: that aborts where the other processes have ended
    and closed their connections. Loader workers, which Python would stop, are stopped here."""
    for worker in multiprocessing.active_children():
        worker.kill()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
