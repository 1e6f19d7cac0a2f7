"""Chooses the pictures for checking an exported file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor
from yacs.config import CfgNode

from dynamic_atss.config.code import names_code
from dynamic_atss.data.catalog import UnknownName, open_dataset
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.errors import UserError
from dynamic_atss.inference.picture import Picture
from dynamic_atss.inference.restore import Restored
from dynamic_atss.inference.sources import Source, of_files, open_source

MAX_PICTURES = 10


def pictures(restored: Restored, given: str) -> tuple[list[Tensor], str]:
    """Gives pictures (3, H, W) uint8 RGB and the name of their source.

    Reads `given` (a folder or a picture), or else the run's first test set, or else generated
    shapes.

    Raises:
        UserError: `given` has no readable picture.
    """
    if given:
        found = _read(open_source(given, restored.reading))
        if not found:
            raise UserError(
                f"--check-images {given}: no picture can be read; give a picture, or a folder of "
                "pictures"
            )
        return found, given
    name, found = _of_test_set(restored)
    if found:
        return found, name
    with tempfile.TemporaryDirectory() as folder:
        make_shapes(Path(folder) / "shapes", train=1, val=4, size=320)
        shapes = Path(folder) / "shapes" / "val"
        return _read(open_source(shapes, restored.reading)), "generated shapes"


def _read(source: Source) -> list[Tensor]:
    found = []
    for picture in source.pictures:
        if isinstance(picture, Picture):
            found.append(picture.image)
        if len(found) == MAX_PICTURES:
            break
    return found


def _of_test_set(restored: Restored) -> tuple[str, list[Tensor]]:
    """Reads the first test set. Gives nothing if it is missing or if custom code has to read it."""
    cfg = restored.cfg
    names = [name for name in cfg.DATASETS.TEST if not names_code("DATASETS.TEST", name)]
    try:
        files = _files(cfg, names[0]) if names else []
    except (UserError, UnknownName):
        return "", []
    folder = files[0].parent if files else Path()
    return (names or [""])[0], _read(of_files(files, restored.reading, folder))


def _files(cfg: CfgNode, name: str) -> list[Path]:
    data = open_dataset(name, root=cfg.DATASETS.ROOT, training=False)
    step = max(len(data) // MAX_PICTURES, 1)
    return [data.path(index) for index in range(0, len(data), step)][:MAX_PICTURES]
