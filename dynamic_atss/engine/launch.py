"""Whether a run was begun by the launcher that now starts its processes anew."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dynamic_atss.files import write_text
from dynamic_atss.reading import NAME_BYTES, read_bytes

logger = logging.getLogger(__name__)

_SIGNATURE = "launch"  # a file of OUTPUT_DIR
_NO_NAME = "none"  # torchrun's run id where the user gave none


def sign(output: Path) -> None:
    """The run in `output` is this launcher's from now on."""
    if name := _name():
        write_text(output / _SIGNATURE, name)


def began(output: Path) -> bool:
    """Whether the run in `output` is this launcher's: it goes on without --resume."""
    path = output / _SIGNATURE
    if not _name() or not path.exists():
        return False
    try:
        return read_bytes(path, NAME_BYTES) == os.fsencode(_name())
    except OSError as error:
        logger.warning("%s does not count: %s", path, error.strerror)
        return False


def _name() -> str:
    """The launcher's: --rdzv-id, the same on all machines; else the folder for the errors of its
    processes on this machine, start after start. "" without a launcher."""
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    own = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    return str(Path(own).parents[2]) if run == _NO_NAME and own else run
