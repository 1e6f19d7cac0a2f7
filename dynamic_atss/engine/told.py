"""One voice: of the processes of one launcher on a machine, the first that meets a mistake tells
it. A mistake that all of them meet is told once, and one that only one of them meets is told, too.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from dynamic_atss.engine.interrupt import on_sigterm


def tell(message: str) -> None:
    """Prints `message` to stderr, unless another process has told a mistake before."""
    # The launcher sends SIGTERM to all processes as soon as one of them has ended.
    with on_sigterm(signal.SIG_IGN):
        if _is_first():
            print(message, file=sys.stderr, flush=True)


def told_by_another() -> bool:
    """Whether a process of this launcher has told a mistake: what else fails then follows from it,
    such as a connection that is closed."""
    mark = _mark()
    return mark is not None and mark.exists()


def _is_first() -> bool:
    mark = _mark()
    try:
        if mark is not None:
            mark.touch(exist_ok=False)  # of several processes the system lets one succeed
    except FileExistsError:
        return False
    except OSError:  # the folder is full or gone: better twice than never
        return True
    return True


def _mark() -> Path | None:
    """A file in the launcher's folder of this machine, run and restart; None without a launcher.

    torchrun names the file for errors of each process, <folder>/<local rank>/error.json.
    """
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(own).parent.parent / "mistake_told" if own else None
