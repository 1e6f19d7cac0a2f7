"""Logs, after a signal has ended a run, which checkpoint is saved and how to continue."""

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
from dynamic_atss.engine.first_report import reported_code
from dynamic_atss.engine.interrupt import STOP_CODES, Stopped, ignore, on_signals
from dynamic_atss.engine.log_lines import Clock

logger = logging.getLogger(__name__)

SCRIPTS = ("torchrun", "dynamic-atss")  # pip installs them into a folder of PATH


@contextlib.contextmanager
def log_stop(checkpoints: Checkpointer) -> Iterator[None]:
    """Logs how to continue if a signal ends the block.

    If the signal ended another process and this one fails for that reason, raises `Stopped` too.
    """
    clock = Clock()
    resume_command = command()  # read now, because the launcher may have ended later
    try:
        yield
    except Stopped as stopped:
        _log_stop(stopped, checkpoints, clock, resume_command)
        raise
    except Exception:
        code = reported_code()
        if code not in STOP_CODES:
            raise
        other = Stopped(code - 128)
        _log_stop(other, checkpoints, clock, resume_command)
        raise other from None


def _log_stop(
    stopped: Stopped, checkpoints: Checkpointer, clock: Clock, resume_command: str
) -> None:
    if distributed.rank() > 0:
        return
    saved = "there is no checkpoint yet"
    if checkpoints.current is not None:
        path, iteration = checkpoints.current
        saved = f"iteration {iteration} is saved in {path}"
    with on_signals(ignore):  # the launcher signals all processes as soon as one has ended
        logger.info("Stopped after %s; results in %s", clock, checkpoints.folder)
        logger.warning("%s: %s; exit code %s", stopped.name, saved, stopped.code)
        logger.warning("to continue%s: %s", _where(), resume_command)


def command() -> str:
    """Gives the command line that started the run, as typed, with --resume."""
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    words = _launcher_command() if launched else _as_typed(sys.orig_argv)
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def _launcher_command() -> list[str]:
    """Gives torchrun's command line; only the known part if it cannot be read."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return ["torchrun", "...", *(word for word in sys.orig_argv[1:] if word != "-u")]
    return _as_typed([os.fsdecode(word) for word in words])


def _as_typed(words: list[str]) -> list[str]:
    """Removes the interpreter before a script that a shell finds by its name."""
    script = words[1] if len(words) > 1 else ""
    name = Path(script).name
    if name not in SCRIPTS:
        return words
    found = shutil.which(name)
    typed = found and Path(found).resolve() == Path(script).resolve()
    return [name if typed else script, *words[2:]]


def _where() -> str:
    return " (on each machine)" if os.environ.get("GROUP_WORLD_SIZE", "1") != "1" else ""
