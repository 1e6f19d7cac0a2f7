"""Where a configuration file is: in the folder that one is in, or among those of the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dynamic_atss.suggest import nearest

PACKAGE = Path(__file__).parents[1]
FOLDER = "configs"
ALIKE = 0.75  # of a name's letters: many names end alike


def shipped() -> Path:
    """The folder of configurations that an installation has; of a clone, the one beside the
    package."""
    inside = PACKAGE / FOLDER
    return inside if inside.is_dir() else PACKAGE.parent / FOLDER


def config_path(file: str | Path) -> Path:
    """The file; `configs/...`, which is not there, is the package's own of that name, if any."""
    given = Path(file)
    if os.path.exists(given) or given.parts[:1] != (FOLDER,):
        return given
    own = shipped().joinpath(*given.parts[1:])
    return own if os.path.isfile(own) else given


def advice(file: str | Path) -> str:
    """What to give in place of a file that cannot be opened."""
    run = Path(file) / "config.yaml"
    if os.path.isfile(run):
        return f"give {run}"
    near = nearest(_stem(str(file)), map(_stem, _known(Path(file))), ALIKE)
    return f"the nearest is {near}.yaml" if near else "give the path of a YAML file"


def _known(given: Path) -> Iterator[str]:
    """Files of the same folder, and those of the package."""
    if os.path.isdir(given.parent):
        yield from map(str, given.parent.glob("*.yaml"))
    yield from (f"{FOLDER}/{x.relative_to(shipped())}" for x in sorted(shipped().rglob("*.yaml")))


def _stem(name: str) -> str:
    """Without the ending, which would make any two names alike."""
    return name.removesuffix(".yaml").removesuffix(".yml")
