"""Writes a run's `config.yaml`. Logs what --resume changes in it, and keeps the former file."""

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
NOTHING = "(not set)"
USAGE = ("config", "exif")  # entries of a checkpoint; see `usage`


class _Dataset(Protocol):
    """Describes the part of a training set that is used here.

    Attributes:
        exif: "apply" or "ignore", as in `DetectionDataset`.
    """

    exif: str

    def __len__(self) -> int: ...


def usage(cfg: CfgNode, datasets: Sequence[_Dataset]) -> dict[str, str]:
    """Gives the entries of a checkpoint that make its model usable without other files.

    `config` is the YAML text of the configuration, without OUTPUT_DIR. `exif` says how the pictures
    of the largest training set are read.
    """
    used = with_absolute_code(cfg).clone()
    used.defrost()
    used.pop("OUTPUT_DIR")  # a run is the same in any folder
    return {"config": used.dump(), "exif": max(datasets, key=len).exif}


def log_changes(cfg: CfgNode, output: Path) -> None:
    """Logs each key whose value differs from that in the config.yaml of the folder."""
    path = output / NAME
    if not path.is_file():
        return
    try:
        lines = changes(read_text(path, YAML_BYTES), with_absolute_code(cfg).dump())
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be compared with the current configuration: %s", path, error)
        return
    for line in lines:
        logger.warning("--resume with another configuration: %s", line)


def write_config(cfg: CfgNode, output: Path, start: int) -> None:
    """Writes config.yaml. Keeps a copy of a former file that differs: config-before-<start>.yaml.

    Args:
        start: the iteration up to which the former configuration was used.

    Raises:
        UserError: the existing file cannot be read, or a file cannot be written.
    """
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
    """Returns True if a file has other values than `text`, or is no configuration."""
    try:
        return bool(changes(before.decode("utf-8"), text))
    except ValueError:
        return True


def _free_path(folder: Path, stem: str) -> Path:
    """Gives <stem>.yaml or, if that exists, <stem>-2.yaml and so on."""
    paths = (folder / f"{stem}{'' if n == 1 else f'-{n}'}.yaml" for n in itertools.count(1))
    return next(path for path in paths if not path.exists())


def changes(old: str, new: str) -> list[str]:
    """Lists the keys whose values differ, in the form `SOLVER.BASE_LR 0.01 -> 0.02`.

    Args:
        old, new: YAML texts.

    Raises:
        ValueError: `old` is no configuration.
    """
    before, after = leaves(old), leaves(new)
    keys = [*after, *(key for key in before if key not in after)]
    values = [(key, _shown(before, key), _shown(after, key)) for key in keys]
    return [f"{key} {was} -> {now}" for key, was, now in values if was != now]


def leaves(text: str) -> dict[str, Any]:
    """Gives the values of a YAML text by their full names, with tuples in place of lists.

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


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else NOTHING


def _tuples(value: Any) -> Any:
    """Converts lists to tuples, which the command line gives."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
