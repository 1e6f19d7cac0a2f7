"""Checkpoints that survive a crash at any moment, and the reading of them."""

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
from dynamic_atss.engine.newest import LAST, find_newest, whole
from dynamic_atss.errors import UserError
from dynamic_atss.files import CHECKPOINT_FORMAT, link_or_copy, write_atomically, write_text
from dynamic_atss.weights.unpickle import read_checkpoint

logger = logging.getLogger(__name__)

BEST = "model_best.pth"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size)


def save_checkpoint(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Writes `content` (tensors and plain Python values) so that `path` is at no time half a file.

    The entry "format" is added. Raises UserError if the file cannot be written (then the old file
    is as it was and nothing is left behind), and TypeError, naming the entry, for a value that
    `load_checkpoint` would refuse to read.
    """
    _check_plain(content, "checkpoint")
    content = {"format": CHECKPOINT_FORMAT, **content}
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content that `save_checkpoint` wrote, with all tensors on the CPU.

    Raises UserError for a file that is missing, damaged or of another kind; it names the newest
    other checkpoint of the folder that is whole.
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
    """Raises UserError: it is no checkpoint, or of another version."""
    if not isinstance(content, dict) or "format" not in content:
        raise UserError(f"{path}: not a checkpoint of a run; {_advice(path)}")
    if content["format"] != CHECKPOINT_FORMAT:
        raise UserError(
            f"{path}: checkpoint format {content['format']!r}, "
            f"this version reads {CHECKPOINT_FORMAT!r}"
        )
    return content


def name_after(iteration: int, last: int) -> str:
    """The checkpoint's name, without its ending; last: the run's last iteration."""
    return "model_final" if iteration == last else f"model_{iteration:07d}"


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """A UserError inside says, too, from which checkpoint the run can go on."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{error}; {distributed.saved_text()}") from error


class Checkpointer:
    """The checkpoints of one output folder: `<name>.pth`, and `last_checkpoint` with its name.

    keep: how many `model_<iteration>.pth` a save leaves, those of later iterations apart; 0: all
    """

    def __init__(self, output_dir: str | os.PathLike[str], keep: int = 0) -> None:
        self.folder = Path(output_dir)
        self.keep = keep
        self.current: tuple[Path, int] | None = None  # saved or resumed last, with its iteration
        self._read: dict[Path, Any] = {}  # what `find` found, until `load` takes it

    def save(self, name: str, content: dict[str, Any]) -> Path:
        """Writes `<name>.pth`, then points `last_checkpoint` at it, then deletes what is too old.

        Raises as save_checkpoint; nothing is deleted then.
        """
        path = self.folder / f"{name}.pth"
        save_checkpoint(path, content)
        self.go_on_from(path, content["iteration"])
        if self.keep:
            self._delete_before(content["iteration"])
        return path

    def mark_best(self) -> None:
        """The checkpoint saved last is `model_best.pth`, too. Raises UserError: as for a save."""
        if self.current is not None:
            link_or_copy(self.current[0], self.folder / BEST)

    def _delete_before(self, iteration: int) -> None:
        """Later files, of a run that was resumed from further back, are not counted: the one that
        was just written would be the oldest."""
        past = [p for p in _numbered(self.folder) if _iteration(p) <= iteration]
        for path in sorted(past, key=_iteration)[: -self.keep]:
            try:
                path.unlink()
            except OSError as error:
                logger.warning("%s: cannot be deleted (%s)", path, error.strerror)

    def find(self) -> Path | None:
        """The checkpoint to go on from, None if the folder has none: see `find_newest`."""
        newest = find_newest(self.folder)
        self._read = {newest.path: newest.content} if newest else {}
        return newest.path if newest else None

    def load(self, path: Path) -> dict[str, Any]:
        """As `load_checkpoint`; what `find` has just read, in this process or another, is not read
        again."""
        if path in self._read:
            return _checked(path, self._read.pop(path))
        return load_checkpoint(path)

    def go_on_from(self, path: Path, iteration: int) -> None:
        """`path` of the folder is the checkpoint of now. `last_checkpoint` names it, too; UserError
        as for a save."""
        self.current = path, iteration
        write_text(self.folder / LAST, path.name)

    def holds_run(self) -> bool:
        """True if the folder holds anything that a new run would overwrite or mix with its own."""
        names = ("config.yaml", "metrics.jsonl", LAST)
        return any((self.folder / n).exists() for n in names) or any(
            self.folder.glob("model_*.pth")
        )


def _check_plain(value: Any, where: str) -> None:
    """Raises TypeError for what weights_only=True would not read back.

    Types are compared exactly: a yacs node is a dict, and a numpy number is a float.
    """
    if type(value) in (dict, OrderedDict, Counter):
        for key, item in value.items():
            _check_plain(key, f"{where}, a key")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for i, item in enumerate(value):
            _check_plain(item, f"{where}[{i}]")
    elif type(value) not in _PLAIN and not isinstance(value, Tensor):
        raise TypeError(f"{where}: a {type(value).__name__}; only tensors and plain values go in")


def _numbered(folder: Path) -> list[Path]:
    return [p for p in folder.glob("model_*.pth") if p.stem.removeprefix("model_").isdigit()]


def _iteration(path: Path) -> int:
    return int(path.stem.removeprefix("model_"))


def _advice(path: Path) -> str:
    """What to do without `path`: the newest other checkpoint that is whole, if there is one."""
    others = sorted((p for p in _numbered(path.parent) if p.name != path.name), reverse=True)
    for other in others:
        if whole(other):
            return f"to go on from {other.name}, write that name into {path.parent / LAST}"
    return "no other checkpoint in its folder is whole: begin in a new OUTPUT_DIR"
