"""Recognises a run whose launcher restarts its processes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dynamic_atss.files import write_text
from dynamic_atss.reading import NAME_BYTES, read_bytes

logger = logging.getLogger(__name__)

_SIGNATURE = "launch"  # a file of OUTPUT_DIR
_NO_NAME = "none"  # torchrun's default run id


def sign(output: Path) -> None:
    """Marks the run in `output` as begun by this launcher."""
    if name := _name():
        write_text(output / _SIGNATURE, name)


def began(output: Path) -> bool:
    """Returns True if this launcher has begun the run in `output`.

    Such a run resumes without --resume.
    """
    path = output / _SIGNATURE
    if not _name() or not path.exists():
        return False
    try:
        return read_bytes(path, NAME_BYTES) == os.fsencode(_name())
    except OSError as error:
        logger.warning("%s is ignored: it cannot be read (%s)", path, error.strerror)
        return False


def _name() -> str:
    """Gives the name of the launcher's run; "" without a launcher.

    It is --rdzv-id, which is the same on all machines. Without it, the name is the launcher's
    folder for errors on this machine, which is the same for all its restarts.
    """
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "")
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    return str(Path(error_file).parents[2]) if run_id == _NO_NAME and error_file else run_id
