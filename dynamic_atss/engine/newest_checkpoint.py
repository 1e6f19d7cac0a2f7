"""Finds the newest complete checkpoint of a folder, by the contents of the files."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_atss.errors import UserError
from dynamic_atss.files import CHECKPOINT_FORMAT
from dynamic_atss.reading import NAME_BYTES, open_file
from dynamic_atss.weights.unpickle import outline, read_checkpoint

logger = logging.getLogger(__name__)

LAST = "last_checkpoint"


@dataclass(frozen=True)
class Newest:
    """Holds a complete checkpoint with its content, so that it is read only once."""

    path: Path
    content: Any


def find_newest(folder: Path) -> Newest | None:
    """Finds the checkpoint to resume from; None if the folder has none and never had one.

    Takes the checkpoint that `last_checkpoint` names, if it is complete. Otherwise takes the
    complete checkpoint of the latest iteration, and logs it.

    Raises:
        UserError: there are checkpoints, but none is complete.
    """
    named, fault = _named(folder)
    if named is not None:
        newest = read_complete(named)
        if newest is not None:
            return newest
        fault = f"{named} is truncated or damaged, or no checkpoint of a run"
    others = [p for p in folder.glob("model_*.pth") if p != named and p.is_file()]
    if not others and not fault:
        return None
    damaged: list[str] = []
    for iteration, path in by_iteration(others):
        newest = None if iteration is None else read_complete(path)
        if newest is not None:
            also = f"; damaged, too: {', '.join(damaged)}" if damaged else ""
            reason = fault or f"{folder / LAST} does not exist"
            logger.warning("%s: resuming from %s, iteration %d%s", reason, path, iteration, also)
            return newest
        damaged.append(path.name)
    also = f" ({', '.join(damaged)})" if damaged else ""
    raise UserError(
        f"{fault or folder}: no {'other ' if fault else ''}checkpoint there is complete{also}; "
        "start in a new OUTPUT_DIR"
    )


def read_complete(path: Path) -> Newest | None:
    """Reads a checkpoint; None if a checksum is wrong, or no run can resume from it."""
    try:
        content = read_checkpoint(path)
    except UserError:
        return None
    return Newest(path, content) if _is_of_run(content) else None


def _is_of_run(content: Any) -> bool:
    """Returns True if it is a checkpoint of a run.

    A checkpoint of another version counts, too. It is refused later.
    """
    if not isinstance(content, dict) or "format" not in content:
        return False
    return content["format"] != CHECKPOINT_FORMAT or (
        type(content.get("iteration")) is int and "model" in content
    )


def _named(folder: Path) -> tuple[Path | None, str]:
    """Gives the file that `last_checkpoint` names, or None, and the fault of `last_checkpoint`.

    No `last_checkpoint` is no fault: a run may have been killed before it wrote the first one.
    """
    pointer = folder / LAST
    try:
        with open_file(pointer, NAME_BYTES) as file:
            name = file.read().decode("utf-8").strip()
        # Only the file name counts: the folder may have been moved after a user wrote a path.
        path = folder / Path(name).name
        exists = path.is_file()
    except FileNotFoundError:
        return None, ""
    except UnicodeDecodeError:
        return None, f"{pointer} is damaged"
    except (OSError, ValueError) as error:
        return None, f"{pointer} names no file ({getattr(error, 'strerror', None) or error})"
    if not exists:
        target = f"{path.name!r}, which does not exist" if name else "no file: it is empty"
        return None, f"{pointer} names {target}"
    return path, ""


def by_iteration(paths: Iterable[Path]) -> list[tuple[int | None, Path]]:
    """Sorts checkpoints by iteration, the latest first; None for a file that cannot be read.

    Of equal iterations, `model_<iteration>.pth` comes before its copy `model_best.pth`.
    """
    found = [(_iteration_in(path), path) for path in sorted(paths)]
    return sorted(found, key=lambda entry: -1 if entry[0] is None else entry[0], reverse=True)


def _iteration_in(path: Path) -> int | None:
    """Reads the iteration of a checkpoint without its tensors; None if that fails."""
    try:
        content = outline(path)
        if content["format"] == CHECKPOINT_FORMAT and type(content["iteration"]) is int:
            return content["iteration"]
    except Exception:  # a broken archive can fail anywhere, also in the encoding of a name
        return None
    return None
