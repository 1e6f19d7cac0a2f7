"""How processes end: the signals that ask them to, and an end with the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import signal

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
