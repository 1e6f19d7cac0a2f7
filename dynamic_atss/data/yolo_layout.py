"""data.yaml of YOLO's layout -> class names, and the images of a split with their label files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dynamic_atss.data.file_names import below
from dynamic_atss.data.texts import read_text
from dynamic_atss.data.values import as_integer
from dynamic_atss.data.voc_names import IMAGE_ENDINGS, read_lines
from dynamic_atss.errors import UserError

LARGEST_FILE = 1 << 20  # bytes of a data.yaml: thousands of class names are a tenth of it
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Layout:
    """What a data.yaml says: root, the folder of `path` · names of the classes · keypoints, how
    many numbers of them follow each box · content, all keys with texts for values
    """

    file: Path
    root: Path
    names: list[str]
    keypoints: int
    content: dict[str, Any]


def read_layout(file: Path) -> Layout:
    """Raises UserError: no such file, not YAML, class names that are missing or unclear."""
    content = _read_yaml(file)
    path = content.get("path", "")
    if not isinstance(path, str):
        raise UserError(f"{file}: 'path' is no text: give the folder of the data set")
    shape = content.get("kpt_shape", [])
    sides = [as_integer(side) or 0 for side in shape] if isinstance(shape, list) else []
    names = _class_names(file, content)
    keypoints = sides[0] * sides[1] if len(sides) == 2 else 0
    return Layout(file, file.parent / path, names, keypoints, content)


def _read_yaml(file: Path) -> dict[str, Any]:
    """Texts, lists and dictionaries alone: "no" stays a name, and nothing is run or expanded."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{file}: has more than {LARGEST_FILE} bytes: give a data.yaml")
        text = read_text(file)
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise UserError(f"{file}: has an alias (*name): write its content in its place")
        content = yaml.load(text, Loader=yaml.BaseLoader)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}): give a data.yaml") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: has no keys: write path, train, val and names")
    return content


def _class_names(file: Path, content: dict[str, Any]) -> list[str]:
    names, count = content.get("names"), as_integer(content.get("nc"))
    if isinstance(names, dict):
        by_id = {as_integer(key): name for key, name in names.items()}
        if sorted(k for k in by_id if k is not None) != list(range(len(names))):
            raise UserError(f"{file}: the keys of 'names' are not 0 to {len(names) - 1}: number so")
        names = [by_id[i] for i in range(len(names))]
    elif names is None and count and 0 < count <= LARGEST_FILE:
        return [str(i) for i in range(count)]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"{file}: 'names' is no list of class names: give one, in order of the ids")
    if content.get("nc") is not None and count != len(names):
        raise UserError(f"{file}: nc is {content['nc']!r:.40}, but 'names' has {len(names)} names")
    return names


def split_images(layout: Layout, split: str) -> tuple[list[Path], list[str]]:
    """The image files of a split, sorted, and what to tell of where they were found.

    Raises UserError: no such split, no such folder or list, no image in it.
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
        images |= dict.fromkeys(_in_folder(found) if found.is_dir() else _in_list(layout, found))
    if not images:
        endings = ", ".join(IMAGE_ENDINGS)
        raise UserError(f"{layout.file}: {split} {value!r:.80}: no image there ({endings})")
    return sorted(images), notes


def _find(layout: Layout, split: str, place: object, notes: list[str]) -> Path:
    """The folder or list, below `path`, or where exporters that mistake it put it."""
    if not isinstance(place, str):
        raise UserError(f"{layout.file}: {split} is no path or list of paths: correct it")
    here, inner = layout.file.parent, place.replace("\\", "/").removeprefix("../")
    path = Path(str(layout.content.get("path", "")))
    ways = [layout.root / place, path / place]
    ways += [root / text for root in (layout.root, here, here.parent) for text in (place, inner)]
    found = next((way for way in ways if way.exists()), None)
    if found is None:
        looked = ", ".join(dict.fromkeys(str(way) for way in ways[:1] + ways[4:5]))
        raise UserError(
            f"{layout.file}: {split} {place!r}: no such folder or list (looked at {looked}): "
            "correct it or 'path'"
        )
    if found != ways[0]:
        notes.append(f"{split} {place!r} is not at {ways[0]}: {found} is read")
    return found


def _in_folder(folder: Path) -> list[Path]:
    return [folder / file for file in below(folder) if file.lower().endswith(IMAGE_ENDINGS)]


def _in_list(layout: Layout, file: Path) -> list[Path]:
    """The images that a text file lists; those that are nowhere are below the root, to be told."""
    found = []
    for line in read_lines(file):
        text = line.replace("\\", "/")
        roots = (file.parent,) if text.startswith("./") else (layout.root, file.parent, Path())
        ways = [root / text for root in roots]
        found.append(next((way for way in ways if way.exists()), ways[0]))
    return found


def label_files(images: Iterable[Path]) -> tuple[list[Path | None], int]:
    """The label file of each image, None where it has none, and how many lie beside their images.

    `images/` becomes `labels/`, at its last place in the path, and the ending `.txt`.
    """
    found: list[Path | None] = []
    beside = 0
    for image in images:
        own, near = label_file(image), image.with_suffix(".txt")
        is_near = not own.is_file() and near.is_file()
        beside += is_near
        found.append(near if is_near else own if own.is_file() else None)
    return found, beside


def label_file(image: Path) -> Path:
    """Where the labels of an image belong."""
    head, folder, tail = str(image.with_suffix(".txt")).rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{head}{os.sep}labels{os.sep}{tail}") if folder else image.with_suffix(".txt")
