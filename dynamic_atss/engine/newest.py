"""The checkpoint of a folder to go on from: whole, by what is in it."""

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
    """A checkpoint that is whole, with its content: it is read once."""

    path: Path
    content: Any


def find_newest(folder: Path) -> Newest | None:
    """The checkpoint that `last_checkpoint` names, if it is whole; else the one of the latest
    iteration, as the files themselves say, that is whole, and a line in the log. None if the
    folder has no checkpoint and never had one.

    Raises:
        UserError: there are checkpoints, but none is whole.
    """
    named, wrong = _named(folder)
    if named is not None:
        newest = whole(named)
        if newest is not None:
            return newest
        wrong = f"{named} is truncated or damaged, or no checkpoint of a run"
    others = [p for p in folder.glob("model_*.pth") if p != named and p.is_file()]
    if not others and not wrong:
        return None
    damaged: list[str] = []
    for iteration, path in by_iteration(others):
        newest = None if iteration is None else whole(path)
        if newest is not None:
            also = f"; damaged, too: {', '.join(damaged)}" if damaged else ""
            reason = wrong or f"{folder / LAST} is not there"
            logger.warning("%s: %s, of iteration %d, is taken%s", reason, path, iteration, also)
            return newest
        damaged.append(path.name)
    also = f" ({', '.join(damaged)})" if damaged else ""
    raise UserError(
        f"{wrong or folder}: no {'other ' if wrong else ''}checkpoint there is whole{also}; begin "
        "in a new OUTPUT_DIR"
    )


def whole(path: Path) -> Newest | None:
    """The checkpoint, if each part of it has its checksum, and a run can go on from it."""
    try:
        content = read_checkpoint(path)
    except UserError:
        return None
    return Newest(path, content) if _of_a_run(content) else None


def _of_a_run(content: Any) -> bool:
    """One of another version is, too: it is refused with its name."""
    if not isinstance(content, dict) or "format" not in content:
        return False
    return content["format"] != CHECKPOINT_FORMAT or (
        type(content.get("iteration")) is int and "model" in content
    )


def _named(folder: Path) -> tuple[Path | None, str]:
    """The file that `last_checkpoint` names, None if it names none, and what is wrong with it.

    A run that was killed between its first checkpoint and it lacks `last_checkpoint`.
    """
    pointer = folder / LAST
    try:
        with open_file(pointer, NAME_BYTES) as file:
            name = file.read().decode("utf-8").strip()
        # Only the last part: the folder may have been moved since a path was written by hand.
        path = folder / Path(name).name
        there = path.is_file()
    except FileNotFoundError:
        return None, ""
    except UnicodeDecodeError:
        return None, f"{pointer} is damaged"
    except (OSError, ValueError) as error:
        return None, f"{pointer} names no file ({getattr(error, 'strerror', None) or error})"
    if not there:
        what = f"{path.name!r}, which is not there" if name else "no file: it is empty"
        return None, f"{pointer} names {what}"
    return path, ""


def by_iteration(paths: Iterable[Path]) -> list[tuple[int | None, Path]]:
    """The latest first, None where it cannot be read; of the same iteration the one with a number
    before a copy (the best)."""
    found = [(_iteration_in(path), path) for path in sorted(paths)]
    return sorted(found, key=lambda entry: -1 if entry[0] is None else entry[0], reverse=True)


def _iteration_in(path: Path) -> int | None:
    """As the content says; None if it cannot be read. The tensors stay on the disk."""
    try:
        content = outline(path)
        if content["format"] == CHECKPOINT_FORMAT and type(content["iteration"]) is int:
            return content["iteration"]
    except Exception:  # a broken archive can fail anywhere: also in the encoding of a name
        return None
    return None
