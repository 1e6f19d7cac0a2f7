"""Reads a data.yaml of YOLO's layout: class names, images of a split, and their label files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_atss.data.file_names import files_below
from dynamic_atss.data.path_check import check_inside, names_outside, outside_error
from dynamic_atss.data.values import as_integer
from dynamic_atss.data.voc_names import IMAGE_ENDINGS, read_lines
from dynamic_atss.errors import UserError
from dynamic_atss.reading import YAML_BYTES, YAML_NODES, read_text
from dynamic_atss.yaml_text import load_yaml

SPLITS = ("train", "val", "test")
_NO_LABELS = {f"{s}.txt" for s in (*SPLITS, "classes", "labels", "obj", "README", "requirements")}


@dataclass(frozen=True)
class Layout:
    """Holds the content of a data.yaml.

    Attributes:
        file: the data.yaml.
        root: the folder that `path` names.
        names: the names of the classes.
        keypoints: count of numbers for keypoints after each box.
        content: all keys, with texts as values.
    """

    file: Path
    root: Path
    names: list[str]
    keypoints: int
    content: dict[str, Any]


def read_layout(file: Path) -> Layout:
    """Reads a data.yaml.

    Raises UserError if it is missing or not YAML, and for missing or malformed class names.
    """
    content = _read_yaml(file)
    path = content.get("path", "")
    if not isinstance(path, str):
        raise UserError(f"{file}: 'path' is not a text: give the folder of the data set")
    shape = content.get("kpt_shape", [])
    sides = [as_integer(side) or 0 for side in shape] if isinstance(shape, list) else []
    names = _class_names(file, content)
    keypoints = sides[0] * sides[1] if len(sides) == 2 else 0
    return Layout(file, file.parent / path, names, keypoints, content)


def _read_yaml(file: Path) -> dict[str, Any]:
    """Reads only texts, lists and dictionaries, so that "no" stays a text and no code runs."""
    try:
        content = load_yaml(read_text(file, YAML_BYTES), as_texts=True)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}): give a data.yaml") from None
    except ValueError as error:
        raise UserError(f"{file}: not a YAML file: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: has no keys: write path, train, val and names")
    return content


def _class_names(file: Path, content: dict[str, Any]) -> list[str]:
    names, count = content.get("names"), as_integer(content.get("nc"))
    if isinstance(names, dict):
        by_id = {as_integer(key): name for key, name in names.items()}
        if sorted(k for k in by_id if k is not None) != list(range(len(names))):
            raise UserError(
                f"{file}: the keys of 'names' are not 0 to {len(names) - 1}: renumber them"
            )
        names = [by_id[i] for i in range(len(names))]
    elif names is None and count and 0 < count <= YAML_NODES:
        return [str(i) for i in range(count)]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"{file}: 'names' is not a list of class names: give one, in order of ids")
    if content.get("nc") is not None and count != len(names):
        raise UserError(
            f"{file}: nc is {content['nc']!r:.40}, but 'names' has {len(names)} names: correct one"
        )
    return names


def split_images(
    layout: Layout, split: str, *, outside: bool = False
) -> tuple[list[Path], list[str]]:
    """Finds the image files of a split, sorted. Returns notes on where they were found, too.

    The folders of a data.yaml may be anywhere. Files in a folder must not lead out of it. Files of
    a list must be in `path`, or in the folder of the data.yaml or of the list.

    Args:
        layout: the data.yaml.
        split: its key.
        outside: allows all places.

    Raises UserError for a missing split, folder or list, and if there is no image.
    """
    value = layout.content.get(split)
    if not value or split in ("path", "names", "nc"):
        known = [s for s in layout.content if s in SPLITS and layout.content[s]]
        raise UserError(
            f"{layout.file}: no split {split!r}: there are {', '.join(known) or 'none'}"
        )
    notes: list[str] = []
    images: dict[Path, None] = {}
    for place in value if isinstance(value, list) else [value]:
        found = _find(layout, split, place, notes)
        if os.path.isdir(found):
            listed, roots = _in_folder(found), [found]
        else:
            listed, roots = _in_list(layout, found), [layout.root, layout.file.parent, found.parent]
        if not outside:
            _check_inside(found, listed, roots)
        images |= dict.fromkeys(listed)
    if not images:
        endings = ", ".join(IMAGE_ENDINGS)
        raise UserError(f"{layout.file}: {split} {value!r:.80}: has no image ({endings})")
    return sorted(images), notes


def _find(layout: Layout, split: str, place: object, notes: list[str]) -> Path:
    """Finds a folder or list below `path`, or where some exporters put it by mistake."""
    if not isinstance(place, str):
        raise UserError(f"{layout.file}: {split} is not a path or list of paths: correct it")
    here, inner = layout.file.parent, place.replace("\\", "/").removeprefix("../")
    path = Path(str(layout.content.get("path", "")))
    candidates = [layout.root / place, path / place]
    candidates += [
        root / text for root in (layout.root, here, here.parent) for text in (place, inner)
    ]
    found = next((candidate for candidate in candidates if os.path.exists(candidate)), None)
    if found is None:
        searched = ", ".join(dict.fromkeys(map(str, candidates[:1] + candidates[4:5])))
        raise UserError(
            f"{layout.file}: {split} {place!r}: no such folder or list (searched {searched}): "
            "correct it or 'path'"
        )
    if found != candidates[0]:
        notes.append(f"{split} {place!r} is not at {candidates[0]}: {found} is read")
    return found


def _in_folder(folder: Path) -> list[Path]:
    files = files_below(folder)
    return [folder / file for file in files if file.lower().endswith(IMAGE_ENDINGS)]


def _in_list(layout: Layout, file: Path) -> list[Path]:
    """Finds the images of a list. A missing image gets a path below the root, for the message."""
    found = []
    for line in read_lines(file):
        text = line.replace("\\", "/")
        roots = (file.parent,) if text.startswith("./") else (layout.root, file.parent, Path())
        candidates = [root / text for root in roots]
        existing = (candidate for candidate in candidates if os.path.exists(candidate))
        found.append(next(existing, candidates[0]))
    return found


def _check_inside(source: Path, images: list[Path], roots: list[Path]) -> None:
    """Raises UserError if an image is in none of the folders."""
    outside = [os.path.abspath(image) for image in images]
    for root in roots:
        outside = names_outside(root, outside)
    if outside:
        raise outside_error(source, roots[0], outside, len(images), "image")


def check_labels(source: Path, files: list[Path]) -> None:
    """Raises UserError if a label file is a link out of its folder."""
    folders: dict[Path, list[str]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file.name)
    for folder, names in folders.items():
        check_inside(source, folder, names, "label file")


def label_files(images: Iterable[Path]) -> tuple[list[Path | None], int]:
    """Finds the label file of each image. Returns None for those that have none.

    The last `images/` in the path becomes `labels/`, and the ending becomes `.txt`. Returns the
    number of label files next to their images, too.
    """
    found: list[Path | None] = []
    next_to_images = 0
    for image in images:
        usual, adjacent = label_file(image), image.with_suffix(".txt")
        is_adjacent = not os.path.isfile(usual) and os.path.isfile(adjacent)
        next_to_images += is_adjacent
        file = adjacent if is_adjacent else usual
        found.append(file if os.path.isfile(file) else None)
    return found, next_to_images


def labels_without_image(images: Iterable[Path], files: Iterable[Path | None]) -> list[Path]:
    """Finds label files without an image of their name in the folder of the images.

    Searches the folders of `files`, which are the label files of `images`.
    """
    folders = {f.parent: i.parent for i, f in zip(images, files, strict=True) if f is not None}
    found = []
    for labels, pictures in folders.items():
        known = {Path(name).stem for name in os.listdir(pictures) if not name.endswith(".txt")}
        names = sorted(name for name in os.listdir(labels) if name.endswith(".txt"))
        found += [labels / n for n in names if Path(n).stem not in known and n not in _NO_LABELS]
    return found


def label_file(image: Path) -> Path:
    """Returns the path at which the labels of an image belong."""
    head, folder, tail = str(image.with_suffix(".txt")).rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{head}{os.sep}labels{os.sep}{tail}") if folder else image.with_suffix(".txt")
