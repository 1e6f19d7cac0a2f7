"""The end of a process whose main thread cannot end it, and its end with its launcher."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # of prctl(2)


def end_at_once(code: int) -> NoReturn:
    """Ends without taking the process group apart: that aborts where the other processes have ended
    and closed their connections. Loader workers, which Python would stop, are stopped here."""
    for worker in multiprocessing.active_children():
        worker.kill()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_with_launcher() -> None:
    """SIGTERM when torchrun's agent, which started this process, is gone.

    Else its processes would train on when it is killed, and nobody would know of them. A process
    that a shell started, perhaps to outlive it, is left alone.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(signal.SIGTERM)


def end_with_parent(signal_: signal.Signals) -> None:
    """Linux sends this process the signal when the thread that started it has ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_)
