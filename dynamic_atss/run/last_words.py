"""What a run says that a signal ended: what is saved, and how to go on."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer
from dynamic_atss.engine.interrupt import STOP_CODES, Stopped, ignore, on_signals
from dynamic_atss.engine.lines import Clock
from dynamic_atss.engine.told import reported_code

logger = logging.getLogger(__name__)

SCRIPTS = ("torchrun", "dynamic-atss")  # which pip writes into a folder of PATH


@contextlib.contextmanager
def last_words(checkpoints: Checkpointer) -> Iterator[None]:
    """After a signal, to this process or to another one, whose end has made this one fail."""
    clock = Clock()
    again = command()  # before its launcher may be gone
    try:
        yield
    except Stopped as stopped:
        _tell(stopped, checkpoints, clock, again)
        raise
    except Exception:
        code = reported_code()
        if code not in STOP_CODES:
            raise
        follows = Stopped(code - 128)
        _tell(follows, checkpoints, clock, again)
        raise follows from None


def _tell(stopped: Stopped, checkpoints: Checkpointer, clock: Clock, again: str) -> None:
    if distributed.rank() > 0:
        return
    saved = "there is no checkpoint yet"
    if checkpoints.current is not None:
        path, iteration = checkpoints.current
        saved = f"iteration {iteration} is saved in {path}"
    with on_signals(ignore):  # the launcher ends all processes as soon as one has ended
        logger.info("Stopped after %s; results in %s", clock, checkpoints.folder)
        logger.warning("%s: %s; exit code %s", stopped.name, saved, stopped.code)
        logger.warning("to go on%s: %s", _where(), again)


def command() -> str:
    """The command line that began the run, as typed, with --resume."""
    words = _of_launcher() if "TORCHELASTIC_RUN_ID" in os.environ else _as_typed(sys.orig_argv)
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def _of_launcher() -> list[str]:
    """torchrun's command line; without it, as far as it is known here."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return ["torchrun", "...", *(word for word in sys.orig_argv[1:] if word != "-u")]
    return _as_typed([os.fsdecode(word) for word in words])


def _as_typed(words: list[str]) -> list[str]:
    """Without the interpreter before a script that a shell finds by its name."""
    script = words[1] if len(words) > 1 else ""
    name = Path(script).name
    if name not in SCRIPTS:
        return words
    found = shutil.which(name)
    typed = found and Path(found).resolve() == Path(script).resolve()
    return [name if typed else script, *words[2:]]


def _where() -> str:
    return " (on each machine)" if os.environ.get("GROUP_WORLD_SIZE", "1") != "1" else ""
