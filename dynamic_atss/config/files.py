"""Finds configuration files in the current folder or in the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dynamic_atss.suggest import nearest

PACKAGE = Path(__file__).parents[1]
FOLDER = "configs"
SIMILARITY = 0.75  # stricter than usual, because many names end equally


def shipped() -> Path:
    """Gives the folder of configurations: inside an installed package, or next to it in a clone."""
    inside = PACKAGE / FOLDER
    return inside if inside.is_dir() else PACKAGE.parent / FOLDER


def config_path(file: str | Path) -> Path:
    """Gives the path of a file; for a missing `configs/...`, the package's file of that name."""
    given = Path(file)
    if os.path.exists(given) or given.parts[:1] != (FOLDER,):
        return given
    in_package = shipped().joinpath(*given.parts[1:])
    return in_package if os.path.isfile(in_package) else given


def advice(file: str | Path) -> str:
    """Says what to give instead of a file that cannot be opened."""
    run = Path(file) / "config.yaml"
    if os.path.isfile(run):
        return f"give {run}"
    near = nearest(_stem(str(file)), map(_stem, _known(Path(file))), SIMILARITY)
    return f"the nearest is {near}.yaml" if near else "give the path of a YAML file"


def _known(given: Path) -> Iterator[str]:
    """Yields the files of the same folder, and those of the package."""
    if os.path.isdir(given.parent):
        yield from map(str, given.parent.glob("*.yaml"))
    yield from (f"{FOLDER}/{x.relative_to(shipped())}" for x in sorted(shipped().rglob("*.yaml")))


def _stem(name: str) -> str:
    """Removes the ending, which would make any two names similar."""
    return name.removesuffix(".yaml").removesuffix(".yml")
