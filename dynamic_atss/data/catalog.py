"""Data set names -> data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.frames import AS_USUAL, Reading
from dynamic_atss.data.shapes import is_complete, make_shapes
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.data.yolo import YoloDataset
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import nearest

# Name: (annotation file, image folder), below the root, as the published releases lay them out.
_COCO = {
    "coco_2017_train": ("instances_train2017", "train2017"),
    "coco_2017_val": ("instances_val2017", "val2017"),
    "coco_2017_test_dev": ("image_info_test-dev2017", "test2017"),
    "coco_2014_train": ("instances_train2014", "train2014"),
    "coco_2014_val": ("instances_val2014", "val2014"),
    "coco_2014_minival": ("instances_minival2014", "val2014"),
    "coco_2014_valminusminival": ("instances_valminusminival2014", "val2014"),
}
_SHAPES = {"shapes_train": "train", "shapes_val": "val"}
# Name: (devkit folder below the root, split).
_VOC = {
    f"voc_{year}_{split}": (f"voc/VOC{year}", split)
    for year in (2007, 2012)
    for split in ("train", "val", "trainval", *(["test"] if year == 2007 else []))
}
ALIKE = 0.7  # of a name's letters: "my_pigs_train" is not meant as "shapes_train"
# How an entry that a user added to the releases' paths_catalog.py is written here.
FROM_CATALOG = "coco:<DATA_DIR>/<its ann_file>:<DATA_DIR>/<its img_dir> in place of its name"
FORMATS: dict[str, type[DetectionDataset]] = {
    "coco": CocoDataset,
    "voc": VocDataset,
    "yolo": YoloDataset,
}


class UnknownName(UserError):
    """A data set that is neither in the catalog nor of a format."""


def open_dataset(
    name: str,
    *,
    root: str | Path,
    formats: Mapping[str, type[DetectionDataset]] = FORMATS,
    reading: Reading = AS_USUAL,
    **options: Any,
) -> DetectionDataset:
    """The data set of a catalog name below `root`, or of `<format>:<what its class reads>`.

    `reading` and `options` are those of `DetectionDataset`. The catalog's own sets stay as they
    were released: their files are read as stored, unless the reading says "apply", and not ahead.
    `shapes_train` and `shapes_val` are generated in `root`/shapes when they are not there.

    Raises:
        UnknownName: with the nearest valid one.
        UserError: files missing.
    """
    if name in {**_COCO, **_VOC, **_SHAPES}:
        reading = replace(reading, headers=False)
    full = in_full(name, Path(root).expanduser())
    for kind, found in formats.items():
        if full.startswith(f"{kind}:"):
            return found.from_name(full.removeprefix(f"{kind}:"), reading=reading, **options)
    raise _unknown(name)


def in_full(name: str, root: Path) -> str:
    """The name with its format: a catalog name's files below `root`, which exist."""
    if name in _SHAPES:
        folder = root / "shapes"
        if not is_complete(folder):
            make_shapes(folder)
        split = _SHAPES[name]
        return f"coco:{folder / 'annotations' / f'{split}.json'}:{folder / split}"
    if name in _COCO:
        annotations, images = _COCO[name]
        paths = root / "coco" / "annotations" / f"{annotations}.json", root / "coco" / images
        _check_there(name, root, paths, CocoDataset)
        return f"coco:{paths[0]}:{paths[1]}"
    if name in _VOC:
        devkit, split = _VOC[name]
        _check_there(name, root, (root / devkit,), VocDataset)
        return f"voc:{root / devkit}:{split}"
    return name


def _check_there(
    name: str, root: Path, paths: tuple[Path, ...], kind: type[DetectionDataset]
) -> None:
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path}: data set '{name}' is not there: put it there, or set DATASETS.ROOT "
                f"(now '{root}') or use {kind.written_as}"
            )


def _unknown(name: str) -> UnknownName:
    names = [*_COCO, *_VOC, *_SHAPES]
    near = nearest(name, names, ALIKE)
    known = f"the nearest name is '{near}'" if near else f"names are {', '.join(names)}"
    ways = " or ".join(kind.written_as for kind in FORMATS.values())
    return UnknownName(
        f"data set '{name}' is unknown: {known}; or use {ways}; an entry of a paths_catalog.py is "
        f"{FROM_CATALOG}"
    )
