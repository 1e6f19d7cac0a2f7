"""Reports an error once for all processes that one launcher started on a machine.

The first process that fails prints why. The others see that it has, and print nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dynamic_atss.engine.interrupt import ignore, on_signals

MISTAKE = 2  # exit code after a user's mistake
_LONGEST_WAIT = 10  # seconds
_after_mistake: list[Callable[[int], None]] = []


def report_end(message: str, code: int = MISTAKE) -> None:
    """Prints to stderr why this process ends with exit code `code`.

    Prints nothing if another process has reported an end, or if processes of an earlier start by
    the same launcher have reported the same message.
    """
    # The launcher sends SIGTERM to all processes as soon as one of them has ended. The handler runs
    # in the main thread, which has no time for it while another thread ends the process.
    main = threading.current_thread() is threading.main_thread()
    with on_signals(ignore) if main else contextlib.nullcontext():
        if claim_report(code, message) and not _reported_before(message):
            print(message, file=sys.stderr, flush=True)
        for call in _after_mistake if code == MISTAKE else ():
            call(code)


def _reported_before(message: str) -> bool:
    """Returns True if a process of an earlier start has reported the same message."""
    mark = _mark()
    if mark is None:
        return False
    others = [path for path in mark.parent.parent.glob(f"*/{mark.name}") if path != mark]
    return message in (path.read_text().partition("\n")[2] for path in others)


def after_mistake(call: Callable[[int], None]) -> None:
    """Registers a function that is called with the exit code after a user's mistake is reported.

    It does not matter which process reports the mistake.
    """
    _after_mistake.append(call)


def claim_report(code: int, message: str = "") -> bool:
    """Records for the other processes that this one ends with `code`, and why.

    Returns True if this process is the first to do so, and therefore the one that prints.
    """
    mark = _mark()
    try:
        if mark is not None:
            with open(mark, "x") as file:  # succeeds in only one process
                file.write(f"{code}\n{message}")
    except FileExistsError:
        return False
    except OSError:  # the folder is full or lost: a message may be printed twice, but never lost
        return True
    return True


def reported_code() -> int:
    """Gives the exit code of the process of this launcher that has reported its end; 0 if none has.

    An error after that, such as a closed connection, is only a consequence.
    """
    mark = _mark()
    try:
        text = "" if mark is None else mark.read_text()
    except OSError:
        return 0
    return int(text.partition("\n")[0] or MISTAKE) if mark is not None else 0


def wait_for_report() -> None:
    """Waits until the process that has the message has reported it.

    The launcher sends SIGTERM to the others as soon as one process ends, so a process without a
    message must not end first. The wait is short, because this process does not see the report of
    another machine.
    """
    end = time.monotonic() + _LONGEST_WAIT
    while _mark() is not None and not reported_code() and time.monotonic() < end:
        time.sleep(0.05)


def _mark() -> Path | None:
    """Gives the file that records the report of this launcher, machine and restart.

    Returns None without a launcher. torchrun names a file for errors of each process,
    <folder>/<local rank>/error.json.
    """
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(error_file).parent.parent / "end_told" if error_file else None
