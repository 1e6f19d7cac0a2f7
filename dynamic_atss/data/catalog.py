"""Data set names -> data sets."""

from __future__ import annotations

import difflib
from pathlib import Path

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.dataset import DetectionDataset, Transform
from dynamic_atss.data.shapes import is_complete, make_shapes
from dynamic_atss.data.voc import VocDataset
from dynamic_atss.errors import UserError

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
_OWN_COCO = "coco:<annotations.json>:<image folder>"
_OWN_VOC = "voc:<devkit folder>:<split>"


def open_dataset(
    name: str,
    *,
    root: str | Path,
    training: bool,
    keep_empty: bool = False,
    transform: Transform | None = None,
    seed: int = 0,
    extra: float = 1.0,
    keep_crowds: bool = False,
) -> DetectionDataset:
    """The data set of a catalog name below `root`, of `coco:<annotations.json>:<image folder>` or
    of `voc:<devkit folder>:<split>`; the other arguments are those of `DetectionDataset`.

    `shapes_train` and `shapes_val` are generated in `root`/shapes when they are not there.
    Raises UserError: unknown name (with the nearest valid one), files missing.
    """
    below = Path(root).expanduser()
    kind: type[CocoDataset] | type[VocDataset] = CocoDataset
    place: tuple[Path, Path | str]
    if name.startswith("voc:") or name in _VOC:
        kind, place = VocDataset, locate_devkit(name, below)
    else:
        place = locate_dataset(name, below)
    return kind(
        *place,  # type: ignore[arg-type]
        training=training,
        keep_empty=keep_empty,
        transform=transform,
        seed=seed,
        extra=extra,
        keep_crowds=keep_crowds,
    )


def locate_devkit(name: str, root: Path) -> tuple[Path, str]:
    """(devkit folder, split) of a name in VOC's layout."""
    if name in _VOC:
        folder, split = _VOC[name]
        if not (root / folder).exists():
            raise _not_there(root / folder, name, root, _OWN_VOC)
        return root / folder, split
    # Paths may hold colons, splits hardly.
    folder, _, split = name.removeprefix("voc:").rpartition(":")
    if not folder or not split:
        raise UserError(f"data set '{name}': write it as {_OWN_VOC}")
    return Path(folder).expanduser(), split


def locate_dataset(name: str, root: Path) -> tuple[Path, Path]:
    """(annotation file, image folder) of a name; both exist for catalog names."""
    if name.startswith("coco:"):
        return _own_files(name)
    if name in _SHAPES:
        folder = root / "shapes"
        if not is_complete(folder):
            make_shapes(folder)
        split = _SHAPES[name]
        return folder / "annotations" / f"{split}.json", folder / split
    if name not in _COCO:
        raise _unknown(name)
    annotations, images = _COCO[name]
    paths = root / "coco" / "annotations" / f"{annotations}.json", root / "coco" / images
    for path in paths:
        if not path.exists():
            raise _not_there(path, name, root, _OWN_COCO)
    return paths


def _not_there(path: Path, name: str, root: Path, own: str) -> UserError:
    return UserError(
        f"{path}: data set '{name}' is not there: put it there, or set DATASETS.ROOT "
        f"(now '{root}') or use {own}"
    )


def _own_files(name: str) -> tuple[Path, Path]:
    rest = name.removeprefix("coco:")
    # Paths may hold colons: the annotation file's end is the better place to cut.
    head, colon, folder = rest.partition(".json:")
    annotations = head + ".json" if colon else rest.partition(":")[0]
    folder = folder if colon else rest.partition(":")[2]
    if not annotations or not folder:
        raise UserError(f"data set '{name}': write it as {_OWN_COCO}")
    return Path(annotations).expanduser(), Path(folder).expanduser()


def _unknown(name: str) -> UserError:
    names = [*_COCO, *_VOC, *_SHAPES]
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return UserError(
        f"data set '{name}' is unknown: the nearest name is '{nearest}'; or use {_OWN_COCO} or "
        f"{_OWN_VOC}"
    )
