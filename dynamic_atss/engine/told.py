"""One voice: of the processes of one launcher on a machine, the first that meets a mistake tells
it. A mistake that all of them meet is told once, and one that only one of them meets is told, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

from dynamic_atss.engine.interrupt import on_sigterm


def tell(message: str) -> None:
    """Prints `message` to stderr, unless another process has told a mistake before, or the launcher
    has started the processes anew and they meet the same again."""
    # The launcher sends SIGTERM to all processes as soon as one of them has ended. Its handler runs
    # in the main thread, which does not get to it while another ends the process.
    main = threading.current_thread() is threading.main_thread()
    with on_sigterm(signal.SIG_IGN) if main else contextlib.nullcontext():
        if _is_first(message):
            print(message, file=sys.stderr, flush=True)


def told_by_another() -> bool:
    """Whether a process of this launcher has told a mistake: what else fails then follows from it,
    such as a connection that is closed."""
    mark = _mark()
    return mark is not None and mark.exists()


def _is_first(message: str) -> bool:
    mark = _mark()
    if mark is None:
        return True
    try:
        # Of several processes the system lets one succeed.
        with mark.open("x") as file:
            file.write(message)
        before = (p for p in mark.parent.parent.glob(f"*/{mark.name}") if p != mark)
        return all(p.read_text() != message for p in before)
    except FileExistsError:
        return False
    except OSError:  # the folder is full or gone: better twice than never
        return True


def _mark() -> Path | None:
    """A file in the launcher's folder of this machine, run and restart; None without a launcher.

    torchrun names the file for errors of each process, <folder>/<local rank>/error.json.
    """
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(own).parent.parent / "mistake_told" if own else None
