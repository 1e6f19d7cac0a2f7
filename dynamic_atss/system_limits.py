"""Limits of the system: which errors mean that one is reached, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Iterable

from dynamic_atss.errors import UserError

SHARED = "/dev/shm"
USUAL_FILES = 4096  # that a process may open
_FILES = re.compile(r"too many open files|received \d+ items of ancdata", re.IGNORECASE)
# torch's names for what processes share; the reason of the system comes last.
_SHARED_MEMORY = re.compile(r"shared memory|</torch_\d+|bus error", re.IGNORECASE)
_MEMORY = re.compile(r"can(?:no|')t allocate memory|out of memory", re.IGNORECASE)
_LOADER = "lower DATALOADER.NUM_WORKERS"


def limit_reached(error: BaseException) -> str | None:
    """The limit that an exception means and how to raise it, in one line; None for any other."""
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
    """The line for an error that means that the memory is full; None for any other."""
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
    """What ended the first of some loader workers that ended by itself, from their exit codes."""
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
    """Lets the process open `needed` files more than now, within the limit that it may not raise.

    Raises:
        UserError: that limit is too low.
    """
    try:
        import resource  # not on Windows

        used = len(os.listdir("/dev/fd"))
    except (ImportError, FileNotFoundError):
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, endless = used + needed, resource.RLIM_INFINITY
    if soft == endless or soft >= wanted:
        return
    if hard == endless or hard >= wanted:
        usual = max(wanted, USUAL_FILES)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (usual if hard == endless else min(usual, hard), hard)
        )
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
        f"the shared memory of the loader workers does not suffice ({reason}{room}): give a "
        f"container more (docker run --shm-size 8g), or {_LOADER} (0 needs none)"
    )
