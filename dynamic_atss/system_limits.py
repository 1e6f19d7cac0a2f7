"""Recognises errors that mean a limit of the system is reached, and says what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Iterable

from dynamic_atss.errors import UserError

SHARED = "/dev/shm"
USUAL_FILES = 4096  # open files of a process
_FILES = re.compile(r"too many open files|received \d+ items of ancdata", re.IGNORECASE)
# Torch's names for shared memory. The system's reason is at the end of the message.
_SHARED_MEMORY = re.compile(r"shared memory|</torch_\d+|bus error", re.IGNORECASE)
_MEMORY = re.compile(r"can(?:no|')t allocate memory|out of memory", re.IGNORECASE)
_LOADER = "lower DATALOADER.NUM_WORKERS"


def limit_reached(error: BaseException) -> str | None:
    """Says in one line which limit an exception means, and how to raise it; None for others."""
    number, text = getattr(error, "errno", None), str(error)
    if number in (errno.EMFILE, errno.ENFILE) or _FILES.search(text):
        limit = _soft_limit()
        return f"too many open files (the limit is {limit}): {_more_files(limit)}"
    if _SHARED_MEMORY.search(text):
        return _shared_memory(text.strip().rpartition(": ")[2])
    if number == errno.EAGAIN and isinstance(error, BlockingIOError):
        return f"the system starts no further process: raise `ulimit -u`, or {_LOADER}"
    return memory_full(error)


def memory_full(error: BaseException) -> str | None:
    """Gives the message for an error that means that the memory is full; None for others."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return (
            "the GPU's memory is full: set SOLVER.ACCUMULATE 2 (or more), or lower "
            "SOLVER.IMS_PER_BATCH (in a test TEST.IMS_PER_BATCH) or the sizes of INPUT"
        )
    number, text = getattr(error, "errno", None), str(error)
    if number == errno.ENOMEM or isinstance(error, MemoryError) or _MEMORY.search(text):
        return (
            f"the memory is full: {_LOADER}, SOLVER.IMS_PER_BATCH (in a test TEST.IMS_PER_BATCH) "
            "or the sizes of INPUT, or set SOLVER.ACCUMULATE 2 (or more)"
        )
    return None


def end_of_workers(codes: Iterable[int | None]) -> str | None:
    """Says why the first loader worker ended, from the workers' exit codes; None if none failed."""
    ended = next((code for code in codes if code), None)
    if ended is None:
        return None
    if ended == -signal.SIGBUS:
        return _shared_memory("bus error")
    if ended == -signal.SIGKILL:
        return (
            "a loader worker was killed (SIGKILL), as the system does when the memory is full: "
            f"{_LOADER} or the sizes of INPUT, or give the run more memory"
        )
    how = f"exit code {ended}" if ended > 0 else signal.Signals(-ended).name
    return f"a loader worker ended by itself ({how}): DATALOADER.NUM_WORKERS 0 shows where"


def provide_descriptors(needed: int) -> None:
    """Raises the soft limit of open files, so that the process can open `needed` more.

    Raises:
        UserError: the hard limit is too low.
    """
    try:
        import resource  # not on Windows

        used = len(os.listdir("/dev/fd"))
    except (ImportError, FileNotFoundError):
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, unlimited = used + needed, resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    if hard == unlimited or hard >= wanted:
        usual = max(wanted, USUAL_FILES)
        limit = usual if hard == unlimited else min(usual, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return
    raise UserError(
        f"too few open files are allowed (the limit is {hard}, {used} are open, a loader with "
        f"workers may need {needed} more): {_more_files(hard)}"
    )


def _more_files(limit: int) -> str:
    return f"raise it by `ulimit -n {max(USUAL_FILES, 2 * limit)}` before the command, or {_LOADER}"


def _soft_limit() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _shared_memory(reason: str) -> str:
    room = ""
    with contextlib.suppress(OSError, AttributeError):
        disk = os.statvfs(SHARED)
        room = f"; {SHARED} has {disk.f_blocks * disk.f_frsize / 2**20:.1f} MiB"
    return (
        f"the shared memory of the loader workers is too small ({reason}{room}): give a "
        f"container more (docker run --shm-size 8g), or {_LOADER} (0 needs none)"
    )
