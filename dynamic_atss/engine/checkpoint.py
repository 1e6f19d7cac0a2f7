"""Writes checkpoints that survive a crash at any moment, and reads them."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.engine import distributed
from dynamic_atss.engine.newest_checkpoint import LAST, find_newest, read_complete
from dynamic_atss.errors import UserError
from dynamic_atss.files import CHECKPOINT_FORMAT, link_or_copy, write_atomically, write_text
from dynamic_atss.weights.unpickle import read_checkpoint

logger = logging.getLogger(__name__)

BEST = "model_best.pth"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size)


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Writes `content`, tensors and plain Python values, with an entry "format".

    `path` is never incomplete.

    Raises:
        UserError: the file cannot be written. The old file is unchanged, and no other is left.
        TypeError: `load_checkpoint` could not read a value; the message names the entry.
    """
    _check_plain(content, "checkpoint")
    content = {"format": CHECKPOINT_FORMAT, **content}
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a file of `save_checkpoint`, with all tensors on the CPU.

    Raises:
        UserError: the file is missing, damaged or no checkpoint. The message names the newest
            complete checkpoint of the folder.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; {_advice(path)}")
    try:
        content = read_checkpoint(path)
    except UserError as error:
        raise UserError(f"{error}; {_advice(path)}") from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> dict[str, Any]:
    """Returns `content`. Raises UserError if it is no checkpoint, or of another version."""
    if not isinstance(content, dict) or "format" not in content:
        raise UserError(f"{path}: not a checkpoint of a run; {_advice(path)}")
    if content["format"] != CHECKPOINT_FORMAT:
        raise UserError(
            f"{path}: checkpoint format {content['format']!r}, "
            f"this version reads {CHECKPOINT_FORMAT!r}"
        )
    return content


def name_after(iteration: int, last: int) -> str:
    """Gives the checkpoint's name without its ending.

    Args:
        iteration: the iteration of the checkpoint.
        last: the last iteration of the run.
    """
    return "model_final" if iteration == last else f"model_{iteration:07d}"


@contextlib.contextmanager
def naming_checkpoint() -> Iterator[None]:
    """Adds to a UserError of the block from which checkpoint the run can continue."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{error}; {distributed.saved_text()}") from error


class Checkpointer:
    """Handles the checkpoints of an output folder.

    They are the files `<name>.pth`, and `last_checkpoint`, which names the last one.

    Args:
        keep: the number of `model_<iteration>.pth` that are kept; 0: all. Files of later iterations
            than the current one do not count.
    """

    def __init__(self, output_dir: str | os.PathLike[str], keep: int = 0) -> None:
        self.folder = Path(output_dir)
        self.keep = keep
        self.current: tuple[Path, int] | None = None  # last saved or resumed, with its iteration
        self._contents: dict[Path, Any] = {}  # read by `find`, kept for `load`

    def save(self, name: str, content: dict[str, Any]) -> Path:
        """Writes `<name>.pth`, points `last_checkpoint` to it, then deletes old checkpoints.

        Raises:
            UserError, TypeError: as `save_checkpoint`. No checkpoint is deleted then.
        """
        path = self.folder / f"{name}.pth"
        save_checkpoint(path, content)
        self.set_current(path, content["iteration"])
        if self.keep:
            self._delete_before(content["iteration"])
        return path

    def mark_best(self) -> None:
        """Links `model_best.pth` to the last saved checkpoint.

        Raises:
            UserError: as `save`.
        """
        if self.current is not None:
            link_or_copy(self.current[0], self.folder / BEST)

    def _delete_before(self, iteration: int) -> None:
        """Deletes the oldest checkpoints up to `iteration`.

        Files of later iterations, from before the run went back, do not count. Otherwise the newly
        written file could be deleted as the oldest.
        """
        past = [p for p in _numbered(self.folder) if _iteration(p) <= iteration]
        for path in sorted(past, key=_iteration)[: -self.keep]:
            try:
                path.unlink()
            except OSError as error:
                logger.warning("%s: cannot be deleted (%s)", path, error.strerror)

    def find(self) -> Path | None:
        """Finds the checkpoint to resume from; None if there is none. See `find_newest`."""
        newest = find_newest(self.folder)
        self._contents = {newest.path: newest.content} if newest else {}
        return newest.path if newest else None

    def load(self, path: Path) -> dict[str, Any]:
        """Does the same as `load_checkpoint`, without reading again a file that `find` has read."""
        if path in self._contents:
            return _checked(path, self._contents.pop(path))
        return load_checkpoint(path)

    def set_current(self, path: Path, iteration: int) -> None:
        """Makes `path` the current checkpoint, and points `last_checkpoint` to it.

        Raises:
            UserError: as `save`.
        """
        self.current = path, iteration
        write_text(self.folder / LAST, path.name)

    def holds_run(self) -> bool:
        """Returns True if the folder holds files of a run, which a new run would overwrite."""
        names = ("config.yaml", "metrics.jsonl", LAST)
        return any((self.folder / n).exists() for n in names) or any(
            self.folder.glob("model_*.pth")
        )


def _check_plain(value: Any, where: str) -> None:
    """Raises TypeError for a value that torch.load with weights_only=True would refuse.

    Compares types exactly, because subclasses, such as yacs nodes and numpy numbers, are refused.
    """
    if type(value) in (dict, OrderedDict, Counter):
        for key, item in value.items():
            _check_plain(key, f"{where}, a key")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    elif type(value) not in _PLAIN and not isinstance(value, Tensor):
        raise TypeError(f"{where}: a {type(value).__name__}; give tensors and plain values only")


def _numbered(folder: Path) -> list[Path]:
    return [p for p in folder.glob("model_*.pth") if p.stem.removeprefix("model_").isdigit()]


def _iteration(path: Path) -> int:
    return int(path.stem.removeprefix("model_"))


def _advice(path: Path) -> str:
    """Says how to continue without `path`: from the newest other complete checkpoint, if any."""
    others = sorted((p for p in _numbered(path.parent) if p.name != path.name), reverse=True)
    for other in others:
        if read_complete(other):
            return f"to continue from {other.name}, write that name into {path.parent / LAST}"
    return "no other checkpoint in its folder is complete: start in a new OUTPUT_DIR"
