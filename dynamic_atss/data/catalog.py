"""Data set names -> data sets."""

from __future__ import annotations

import difflib
from pathlib import Path

from dynamic_atss.data.coco import CocoDataset, Transform
from dynamic_atss.data.shapes import is_complete, make_shapes
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
_OWN = "coco:<annotations.json>:<image folder>"


def open_dataset(
    name: str,
    *,
    root: str | Path,
    training: bool,
    keep_empty: bool = False,
    transform: Transform | None = None,
    seed: int = 0,
) -> CocoDataset:
    """The data set of a catalog name below `root`, or of `coco:<annotations.json>:<image folder>`.

    `shapes_train` and `shapes_val` are generated in `root`/shapes when they are not there.
    Raises UserError: unknown name (with the nearest valid one), files missing.
    """
    annotations, images = locate_dataset(name, Path(root).expanduser())
    return CocoDataset(
        annotations,
        images,
        training=training,
        keep_empty=keep_empty,
        transform=transform,
        seed=seed,
    )


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
            raise UserError(
                f"{path}: data set '{name}' is not there: put it there, or set DATASETS.ROOT "
                f"(now '{root}') or use {_OWN}"
            )
    return paths


def _own_files(name: str) -> tuple[Path, Path]:
    rest = name.removeprefix("coco:")
    # Paths may hold colons: the annotation file's end is the better place to cut.
    head, colon, folder = rest.partition(".json:")
    annotations = head + ".json" if colon else rest.partition(":")[0]
    folder = folder if colon else rest.partition(":")[2]
    if not annotations or not folder:
        raise UserError(f"data set '{name}': write it as {_OWN}")
    return Path(annotations).expanduser(), Path(folder).expanduser()


def _unknown(name: str) -> UserError:
    names = [*_COCO, *_SHAPES]
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    return UserError(
        f"data set '{name}' is unknown: the nearest name is '{nearest}'; or use {_OWN}"
    )
