"""Files that a run leaves: each appears whole or not at all, and is readable after a crash."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dynamic_atss.errors import UserError
from dynamic_atss.reading import RECORD_BYTES, read_bytes
from dynamic_atss.system_limits import limit_reached

_log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
CHECKPOINT_FORMAT = "dynamic_atss/1"  # the entry "format" of this project's checkpoints
_NUMBERS = {"iteration", "loss", "lr"}  # of a record, where they are in it
_LARGEST = 2.0**63  # an integer beyond it fits into no array
CACHE_VARIABLE = "DYNAMIC_ATSS_CACHE"


def cache_folder() -> Path:
    """Of what can be fetched or found out again: $DYNAMIC_ATSS_CACHE or ~/.cache/dynamic_atss."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/dynamic_atss").expanduser()


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Calls `write` with the file that becomes `path`; its folder is made where it is missing.

    Raises UserError if that fails; then nothing is left behind and an older file is as it was.
    """
    path = Path(path)
    try:
        with replacement(path) as file:
            write(file)
    except (OSError, RuntimeError) as error:
        # torch reports the failed write of a file as RuntimeError; the cause is in its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        advice = limit_reached(cause) or (
            f"cannot be written ({cause.strerror or cause}): make room or choose another place"
        )
        raise UserError(f"{path}: {advice}; what was written before is untouched") from error


def write_text(path: str | Path, text: str) -> None:
    """`write_atomically` of a text in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def check_place(path: Path, told: str = "--output") -> None:
    """Before long work, for the file that it ends with; nothing is made.

    told: what names the file, for messages. Raises UserError: it cannot be written there.
    """
    if path.is_dir():
        raise UserError(f"{told} {path}: is a folder; name a file in it")
    above = next(place for place in path.absolute().parents if os.path.lexists(place))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"{told} {path}: {above} is no folder that can be written; choose another")


def open_folder(folder: Path, told: str = "--output") -> None:
    """Makes it where it is missing. Raises UserError: it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{told} {folder}: cannot be made ({error}); choose another") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{told} {folder}: cannot be written; choose another folder")


def link_or_copy(source: str | Path, path: str | Path) -> None:
    """`path` becomes the same file as `source`, or a copy where the file system has no hard links;
    whole or not at all.

    Raises UserError as `write_atomically`.
    """
    source, path = Path(source), Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        os.replace(temporary, path)  # does nothing, and leaves both, if they are one file already
    except OSError:
        with open(source, "rb") as content:
            write_atomically(path, lambda file: shutil.copyfileobj(content, file))
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """A temporary file in the same folder; at the end of the block it is on the disk and renamed.

    Its name is fixed, so that a killed run leaves at most one, which the next overwrites: one
    process at a time writes a path. An error of the block or of the disk goes on to the caller.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # mostly: renamed, so no longer there
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself last; a folder cannot be opened for this on every file system."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`, in the file's order; [] if there is no file.

    Lines that are no whole records are skipped, and counted in the log: a killed run may leave half
    a line. Numbers that were not finite read None.
    """
    try:
        lines = read_bytes(path, RECORD_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the file") from None
    records = [record for record in map(_record, lines) if record is not None]
    if skipped := len(lines) - len(records):
        _log.warning("%s: %d of %d lines are no records, and skipped", path, skipped, len(lines))
    return records


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and type(record.get("iteration")) is int
    numbers = [record[key] for key in _NUMBERS & record.keys()] if whole else []
    return record if whole and all(map(_is_number, numbers)) else None


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) < _LARGEST)
