"""Writes the files of a run so that each is complete or absent, also after a crash."""

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
_NUMBERS = {"iteration", "loss", "lr"}  # entries of a record that must be numbers
_LARGEST = 2.0**63  # a larger integer fits into no array
CACHE_VARIABLE = "DYNAMIC_ATSS_CACHE"


def cache_folder() -> Path:
    """Gives the folder for files that can be made again.

    It is $DYNAMIC_ATSS_CACHE or ~/.cache/dynamic_atss.
    """
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/dynamic_atss").expanduser()


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], Any]) -> None:
    """Calls `write` with a temporary file that then replaces `path`. Makes the folder if needed.

    Raises:
        UserError: writing failed. No temporary file is left, and an older `path` is unchanged.
    """
    path = Path(path)
    try:
        with replacement(path) as file:
            write(file)
    except (OSError, RuntimeError) as error:
        # torch raises RuntimeError for a failed write; the OSError is its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        advice = limit_reached(cause) or (
            f"cannot be written ({cause.strerror or cause}): make room or choose another place"
        )
        raise UserError(f"{path}: {advice}; what was written before is untouched") from error


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, as `write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def check_place(path: Path, option: str = "--output") -> None:
    """Checks, before long work, that the file `path` can be written. Makes nothing.

    Args:
        option: the option that gave the path, for messages.

    Raises:
        UserError: the file cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file in it")
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(
            f"{option} {path}: {above} is no folder that can be written; choose another"
        )


def open_folder(folder: Path, option: str = "--output") -> None:
    """Makes a folder if needed. Raises UserError if it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {folder}: cannot be made ({error}); choose another") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{option} {folder}: cannot be written; choose another folder")


def link_or_copy(source: str | Path, path: str | Path) -> None:
    """Makes `path` a hard link to `source`, or a copy if the file system has no hard links.

    Never leaves an incomplete file.

    Raises:
        UserError: as `write_atomically`.
    """
    source, path = Path(source), Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        os.replace(temporary, path)  # does nothing if both are links to the same file already
    except OSError:
        with open(source, "rb") as content:
            write_atomically(path, lambda file: shutil.copyfileobj(content, file))
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file in the same folder, and renames it to `path` after the block.

    The file is synced to the disk before it is renamed. Only one process at a time may write a
    path, because the temporary name is fixed. A killed run therefore leaves at most one temporary
    file, which the next run overwrites. Errors of the block and of the disk reach the caller.
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
        with contextlib.suppress(OSError):  # it does not exist if it was renamed
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Syncs a rename to the disk, on file systems that can open a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Reads the records of a `metrics.jsonl`, in the file's order; [] if there is no file.

    Skips incomplete lines, which a killed run may leave, and logs their number. Numbers that were
    not finite become None.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = read_bytes(path, RECORD_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the file") from None
    records = [record for record in map(_record, lines) if record is not None]
    if skipped := len(lines) - len(records):
        _log.warning("%s: skipped %d of %d lines: no records", path, skipped, len(lines))
    return records


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("iteration")) is not int:
        return None
    numbers = [record[key] for key in _NUMBERS & record.keys()]
    return record if all(map(_is_number, numbers)) else None


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) < _LARGEST)
