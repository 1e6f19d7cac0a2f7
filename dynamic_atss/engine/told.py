"""One voice: of the processes of one launcher on a machine, the first that meets a mistake tells
it. A mistake that all of them meet is told once, and one that only one of them meets is told, too.
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

MISTAKE = 2  # the exit code after one
_LONGEST_WAIT = 10  # seconds
_before_the_end: list[Callable[[int], None]] = []


def tell(message: str, code: int = MISTAKE) -> None:
    """Prints `message`, why this process ends with that code, to stderr, unless another process has
    told why it ends, or the launcher has started all anew and they meet the same again."""
    # The launcher sends SIGTERM to all processes as soon as one of them has ended. Its handler runs
    # in the main thread, which does not get to it while another thread ends the process.
    main = threading.current_thread() is threading.main_thread()
    with on_signals(ignore) if main else contextlib.nullcontext():
        if ends_first(code, message) and not _told_before(message):
            print(message, file=sys.stderr, flush=True)
        for do in _before_the_end if code == MISTAKE else ():
            do(code)


def _told_before(message: str) -> bool:
    """By a process of an earlier start."""
    mark = _mark()
    if mark is None:
        return False
    others = [path for path in mark.parent.parent.glob(f"*/{mark.name}") if path != mark]
    return message in (path.read_text().partition("\n")[2] for path in others)


def before_the_end(do: Callable[[int], None]) -> None:
    """`do` is called with the exit code after a mistake has been told, or was told by another."""
    _before_the_end.append(do)


def ends_first(code: int, message: str = "") -> bool:
    """Notes for the others that this process ends with that code, and why is told. Whether no
    other has noted an end before."""
    mark = _mark()
    try:
        if mark is not None:
            with open(mark, "x") as file:  # of several processes the system lets one succeed
                file.write(f"{code}\n{message}")
    except FileExistsError:
        return False
    except OSError:  # the folder is full or gone: better twice than never
        return True
    return True


def code_of_another() -> int:
    """The exit code of a process of this launcher that has ended, and told why: what else fails
    then follows from it, such as a connection that is closed. 0: there is none."""
    mark = _mark()
    try:
        text = "" if mark is None else mark.read_text()
    except OSError:
        return 0
    return int(text.partition("\n")[0] or MISTAKE) if mark is not None else 0


def wait_until_told() -> None:
    """For a process that ends since another has the word: the launcher sends SIGTERM to the others
    as soon as one has ended, and that one may still be on its way to tell. On another machine it
    may be, whose word is not seen here: so not for long."""
    end = time.monotonic() + _LONGEST_WAIT
    while _mark() is not None and not code_of_another() and time.monotonic() < end:
        time.sleep(0.05)


def _mark() -> Path | None:
    """A file in the launcher's folder of this machine, run and restart; None without a launcher.

    torchrun names the file for errors of each process, <folder>/<local rank>/error.json.
    """
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(own).parent.parent / "end_told" if own else None
