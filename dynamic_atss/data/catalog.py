"""Opens data sets by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.orientation import DEFAULT_READ_OPTIONS, ReadOptions
from dynamic_atss.data.shapes import is_complete, make_shapes
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.data.yolo import YoloDataset
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import nearest

# Name: (annotation file, image folder) below the root, laid out as for the published releases.
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
ALIKE = 0.7  # share of equal letters; "my_pigs_train" is too far from "shapes_train"
# The form of a name for an entry that a user has added to the releases' paths_catalog.py.
FROM_CATALOG = "coco:<DATA_DIR>/<its ann_file>:<DATA_DIR>/<its img_dir> in place of its name"
FORMATS: dict[str, type[DetectionDataset]] = {
    "coco": CocoDataset,
    "voc": VocDataset,
    "yolo": YoloDataset,
}


class UnknownName(UserError):
    """Says that a name is neither in the catalog nor of the form `<format>:...`."""


def open_dataset(
    name: str,
    *,
    root: str | Path,
    formats: Mapping[str, type[DetectionDataset]] = FORMATS,
    reading: ReadOptions = DEFAULT_READ_OPTIONS,
    **options: Any,
) -> DetectionDataset:
    """Opens the data set of a catalog name, or of `<format>:<arguments of the format>`.

    The catalog's sets are known. Their images are read as stored, unless `reading.exif` is "apply",
    and their headers are not checked. Generates `shapes_train` and `shapes_val` in `root`/shapes if
    they are missing.

    Args:
        name: the name of the data set.
        root: the folder of the catalog's data sets.
        formats: the class of each format.
        reading, options: as for `DetectionDataset`.

    Raises:
        UnknownName: if the name is unknown. The message has the nearest valid one.
        UserError: if files are missing.
    """
    if name in {**_COCO, **_VOC, **_SHAPES}:
        reading = replace(reading, headers=False)
    full = full_name(name, Path(root).expanduser())
    for kind, format_class in formats.items():
        if full.startswith(f"{kind}:"):
            arguments = full.removeprefix(f"{kind}:")
            return format_class.from_name(arguments, reading=reading, **options)
    raise _unknown(name)


def full_name(name: str, root: Path) -> str:
    """Replaces a catalog name by `<format>:<files>` below `root`. Other names stay unchanged.

    Raises UserError if the files do not exist.
    """
    if name in _SHAPES:
        folder = root / "shapes"
        if not is_complete(folder):
            make_shapes(folder)
        split = _SHAPES[name]
        return f"coco:{folder / 'annotations' / f'{split}.json'}:{folder / split}"
    if name in _COCO:
        annotations, images = _COCO[name]
        paths = root / "coco" / "annotations" / f"{annotations}.json", root / "coco" / images
        _check_exist(name, root, paths, CocoDataset)
        return f"coco:{paths[0]}:{paths[1]}"
    if name in _VOC:
        devkit, split = _VOC[name]
        _check_exist(name, root, (root / devkit,), VocDataset)
        return f"voc:{root / devkit}:{split}"
    return name


def _check_exist(
    name: str, root: Path, paths: tuple[Path, ...], kind: type[DetectionDataset]
) -> None:
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path}: not found, but data set '{name}' needs it: put it there, set "
                f"DATASETS.ROOT (now '{root}'), or use {kind.written_as}"
            )


def _unknown(name: str) -> UnknownName:
    names = [*_COCO, *_VOC, *_SHAPES]
    near = nearest(name, names, ALIKE)
    known = f"the nearest name is '{near}'" if near else f"names are {', '.join(names)}"
    forms = " or ".join(kind.written_as for kind in FORMATS.values())
    return UnknownName(
        f"data set '{name}' is unknown: {known}; or use {forms}; for an entry of a "
        f"paths_catalog.py use {FROM_CATALOG}"
    )
