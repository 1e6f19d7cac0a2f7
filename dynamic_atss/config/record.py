"""The `config.yaml` of a run: what --resume changes in it is told, and the one before is kept."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from yacs.config import CfgNode

from dynamic_atss.config.code import with_absolute_code
from dynamic_atss.errors import UserError
from dynamic_atss.files import write_atomically, write_text
from dynamic_atss.reading import YAML_BYTES, read_bytes, read_text
from dynamic_atss.yaml_text import load_yaml

logger = logging.getLogger(__name__)

NAME = "config.yaml"
NOTHING = "(not there)"
USAGE = ("config", "exif")  # entries of a checkpoint; see `usage`


class _Read(Protocol):
    """exif: "apply" or "ignore", as `DetectionDataset` has it."""

    exif: str

    def __len__(self) -> int: ...


def usage(cfg: CfgNode, parts: Sequence[_Read]) -> dict[str, str]:
    """What a checkpoint holds beside weights and classes, so that the file alone is enough to use
    the model: `config`, the YAML text of the configuration, and `exif`, how the pictures of the
    largest of the training sets are read. OUTPUT_DIR is left out: a run is the same in any folder.
    """
    used = with_absolute_code(cfg).clone()
    used.defrost()
    used.pop("OUTPUT_DIR")
    return {"config": used.dump(), "exif": max(parts, key=len).exif}


def tell_changes(cfg: CfgNode, output: Path) -> None:
    """A line of the log for each key that was otherwise before."""
    path = output / NAME
    if not path.is_file():
        return
    try:
        found = changes(read_text(path, YAML_BYTES), with_absolute_code(cfg).dump())
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be compared with the configuration of now: %s", path, error)
        return
    for line in found:
        logger.warning("--resume with another configuration: %s", line)


def write_config(cfg: CfgNode, output: Path, start: int) -> None:
    """Writes config.yaml; another one that is there is kept beside it, under the iteration up to
    which it counted, `start`. Raises UserError: that one cannot be read."""
    path, text = output / NAME, with_absolute_code(cfg).dump()
    try:
        before = read_bytes(path, YAML_BYTES) if path.is_file() else None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); move it away") from None
    if before is not None and _differs(before, text):
        kept = _free_path(output, f"config-before-{start:07d}")
        write_atomically(kept, lambda file: file.write(before))
        logger.warning("the configuration up to iteration %d is kept as %s", start, kept)
    write_text(path, text)


def _differs(before: bytes, text: str) -> bool:
    """Whether a file says something else, or is no configuration; its form does not count."""
    try:
        return bool(changes(before.decode("utf-8"), text))
    except ValueError:
        return True


def _free_path(folder: Path, stem: str) -> Path:
    """<stem>.yaml or, where that is taken, <stem>-2.yaml and so on."""
    paths = (folder / f"{stem}{'' if n == 1 else f'-{n}'}.yaml" for n in itertools.count(1))
    return next(path for path in paths if not path.exists())


def changes(old: str, new: str) -> list[str]:
    """A line for each key of two YAML texts whose value differs: `SOLVER.BASE_LR 0.01 -> 0.02`.

    Raises:
        ValueError: `old` is no configuration.
    """
    before, after = leaves(old), leaves(new)
    keys = [*after, *(key for key in before if key not in after)]
    pairs = [(key, *(_shown(side, key) for side in (before, after))) for key in keys]
    return [f"{key} {was} -> {now}" for key, was, now in pairs if was != now]


def leaves(text: str) -> dict[str, Any]:
    """The values of a YAML text by their full names, lists as tuples.

    Raises:
        ValueError: it is no configuration.
    """
    return {name: _tuples(value) for name, value in _leaves(_tree(text))}


def _tree(text: str) -> dict[str, Any]:
    tree = load_yaml(text)
    if not isinstance(tree, dict):
        raise ValueError(f"it holds a {type(tree).__name__}")
    return tree


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(side: dict[str, Any], key: str) -> str:
    return repr(side[key]) if key in side else NOTHING


def _tuples(value: Any) -> Any:
    """Lists as the command line has them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
