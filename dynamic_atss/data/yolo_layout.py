"""data.yaml of YOLO's layout -> class names, and the images of a split with their label files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamic_atss.data.file_names import below
from dynamic_atss.data.inside import check_inside, leading_out, outside_error
from dynamic_atss.data.values import as_integer
from dynamic_atss.data.voc_names import IMAGE_ENDINGS, read_lines
from dynamic_atss.errors import UserError
from dynamic_atss.reading import YAML_BYTES, YAML_NODES, read_text
from dynamic_atss.yaml_text import load_yaml

SPLITS = ("train", "val", "test")
_NO_LABELS = {f"{s}.txt" for s in (*SPLITS, "classes", "labels", "obj", "README", "requirements")}


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
    """Texts, lists and dictionaries alone: "no" stays a name, and nothing is run."""
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
            raise UserError(f"{file}: the keys of 'names' are not 0 to {len(names) - 1}: number so")
        names = [by_id[i] for i in range(len(names))]
    elif names is None and count and 0 < count <= YAML_NODES:
        return [str(i) for i in range(count)]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UserError(f"{file}: 'names' is no list of class names: give one, in order of the ids")
    if content.get("nc") is not None and count != len(names):
        raise UserError(f"{file}: nc is {content['nc']!r:.40}, but 'names' has {len(names)} names")
    return names


def split_images(
    layout: Layout, split: str, *, outside: bool = False
) -> tuple[list[Path], list[str]]:
    """The image files of a split, sorted, and what to tell of where they were found.

    The folders that a data.yaml names may lie anywhere; what lies in them, and what a list names,
    stays there unless `outside`: in `path`, or beside the data.yaml or the list.
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
        if os.path.isdir(found):
            listed, roots = _in_folder(found), [found]
        else:
            listed, roots = _in_list(layout, found), [layout.root, layout.file.parent, found.parent]
        if not outside:
            _check_inside(found, listed, roots)
        images |= dict.fromkeys(listed)
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
    found = next((way for way in ways if os.path.exists(way)), None)
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
        found.append(next((way for way in ways if os.path.exists(way)), ways[0]))
    return found


def _check_inside(source: Path, images: list[Path], roots: list[Path]) -> None:
    """Raises UserError: an image lies in none of the folders."""
    out = [os.path.abspath(image) for image in images]
    for root in roots:
        out = leading_out(root, out)
    if out:
        raise outside_error(source, roots[0], out, len(images), "image")


def check_labels(source: Path, files: list[Path]) -> None:
    """Raises UserError: a label file is a link out of its folder."""
    folders: dict[Path, list[str]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file.name)
    for folder, names in folders.items():
        check_inside(source, folder, names, "label file")


def label_files(images: Iterable[Path]) -> tuple[list[Path | None], int]:
    """The label file of each image, None where it has none, and how many lie beside their images.

    `images/` becomes `labels/`, at its last place in the path, and the ending `.txt`.
    """
    found: list[Path | None] = []
    beside = 0
    for image in images:
        own, near = label_file(image), image.with_suffix(".txt")
        is_near = not os.path.isfile(own) and os.path.isfile(near)
        beside += is_near
        found.append(near if is_near else own if os.path.isfile(own) else None)
    return found, beside


def labels_without_image(images: Iterable[Path], files: Iterable[Path | None]) -> list[Path]:
    """Label files in the folders of those that were read whose image is in no split: none in its
    folder has their name.

    images, with the label file of each
    """
    folders = {f.parent: i.parent for i, f in zip(images, files, strict=True) if f is not None}
    lone = []
    for labels, pictures in folders.items():
        known = {Path(name).stem for name in os.listdir(pictures) if not name.endswith(".txt")}
        names = sorted(name for name in os.listdir(labels) if name.endswith(".txt"))
        lone += [labels / n for n in names if Path(n).stem not in known and n not in _NO_LABELS]
    return lone


def label_file(image: Path) -> Path:
    """Where the labels of an image belong."""
    head, folder, tail = str(image.with_suffix(".txt")).rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{head}{os.sep}labels{os.sep}{tail}") if folder else image.with_suffix(".txt")
