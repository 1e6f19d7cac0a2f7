"""Whether a run was begun by the launcher that now starts its processes anew."""

from __future__ import annotations

import os
from pathlib import Path

from dynamic_atss.files import write_text

_SIGNATURE = "launch"  # a file of OUTPUT_DIR
_NO_NAME = "none"  # torchrun's run id where the user gave none


def sign(output: Path) -> None:
    """The run in `output` is this launcher's from now on."""
    if name := _name():
        write_text(output / _SIGNATURE, name)


def began(output: Path) -> bool:
    """Whether the run in `output` is this launcher's: it goes on without --resume."""
    path = output / _SIGNATURE
    return bool(_name()) and path.is_file() and path.read_text() == _name()


def _name() -> str:
    """The launcher's: --rdzv-id, the same on all machines; else the folder for the errors of its
    processes on this machine, start after start. "" without a launcher."""
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    own = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    return str(Path(own).parents[2]) if run == _NO_NAME and own else run
