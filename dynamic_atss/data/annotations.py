"""COCO JSON -> packed numpy arrays, with every mistake of the file told in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.errors import UserError


@dataclass(frozen=True)
class Annotations:
    """The content of one COCO file: n images by ascending id, A boxes image by image.

    image_ids (n,) int64 · names (n,) str ·
    sizes (n, 2) int64 height, width, 0 where the file has none ·
    xywh (A, 4) float64 as in the file ·
    classes (A,) int64 in 0..C-1, the order of `categories` ·
    image (A,) int64 index into the images, ascending · crowd (A,) bool
    """

    image_ids: np.ndarray
    names: np.ndarray
    sizes: np.ndarray
    class_names: list[str]
    category_ids: list[int]
    xywh: np.ndarray
    classes: np.ndarray
    image: np.ndarray
    crowd: np.ndarray


def read_annotations(path: Path, *, need_boxes: bool) -> Annotations:
    """Reads and checks a COCO file.

    need_boxes: the file must have `annotations` (those of test sets have none).
    Raises UserError: file missing or broken, entries missing, ids unknown or given twice,
    malformed boxes.
    """
    content = _read_json(path)
    for key in ("images", "categories", *(["annotations"] if need_boxes else [])):
        if key not in content:
            raise UserError(f"{path}: no '{key}': give a file in COCO's detection format")
    for key in ("images", "categories", "annotations"):
        _check_entries(path, key, content.get(key, []))
    category_ids = _ids(path, "category", content["categories"])
    image_ids = _ids(path, "image", content["images"])
    entries = content.get("annotations", [])
    _ids(path, "annotation", [e for e in entries if "id" in e])
    order = np.argsort(np.array(image_ids, dtype=np.int64), kind="stable")
    images = [content["images"][i] for i in order]
    classes = _lookup(path, entries, "category_id", category_ids, "categories")
    image = _lookup(path, entries, "image_id", [image_ids[i] for i in order], "images")
    by_image = np.argsort(image, kind="stable")
    return Annotations(
        image_ids=np.array(image_ids, dtype=np.int64)[order],
        names=np.array([_file_name(path, e) for e in images], dtype=np.str_),
        sizes=np.array([_size(path, e) for e in images], dtype=np.int64).reshape(-1, 2),
        class_names=[str(e.get("name", e["id"])) for e in content["categories"]],
        category_ids=category_ids,
        xywh=_boxes(path, entries)[by_image],
        classes=classes[by_image],
        image=image[by_image],
        crowd=np.array([bool(e.get("iscrowd", 0)) for e in entries], dtype=bool)[by_image],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such annotation file: check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path}: broken JSON at {where} ({error.msg}): mend it or fetch the file again"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise UserError(f"{path}: not a JSON text: give a COCO annotation file") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: the top level is a {type(content).__name__}, not an object with 'images', "
            "'annotations' and 'categories': give a COCO annotation file"
        )
    return content


def _check_entries(path: Path, key: str, entries: object) -> None:
    if not isinstance(entries, list):
        raise UserError(f"{path}: '{key}' is not a list: give a COCO annotation file")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} of '{key}' is not an object: correct it")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(path: Path, kind: str, entries: Iterable[dict[str, Any]]) -> list[int]:
    """The `id` of every entry: integers, none twice."""
    seen: set[int] = set()
    ids = []
    for number, entry in enumerate(entries):
        value = entry.get("id")
        if not _is_integer(value):
            raise UserError(
                f"{path}: the id of {kind} number {number} is {value!r}: make it an integer"
            )
        if value in seen:
            raise UserError(f"{path}: {kind} id {value} is there twice: give each its own id")
        seen.add(value)
        ids.append(value)
    return ids


def annotation_name(entry: dict[str, Any], number: int) -> str:
    """How messages call an annotation: by its id, or by its place in the file."""
    return f"annotation id {entry['id']}" if "id" in entry else f"annotation number {number}"


def _lookup(
    path: Path, entries: list[dict[str, Any]], key: str, known: list[int], where: str
) -> np.ndarray:
    """(A,) int64: the place of each entry's `key` in `known`."""
    place = {value: i for i, value in enumerate(known)}
    found = np.empty(len(entries), dtype=np.int64)
    for number, entry in enumerate(entries):
        value = entry.get(key)
        if not _is_integer(value) or value not in place:
            raise UserError(
                f"{path}: {annotation_name(entry, number)}: {key} {value!r} is not among the ids "
                f"of '{where}': add it there or correct the annotation"
            )
        found[number] = place[value]
    return found


def _boxes(path: Path, entries: list[dict[str, Any]]) -> np.ndarray:
    boxes = np.empty((len(entries), 4), dtype=np.float64)
    for number, entry in enumerate(entries):
        box = entry.get("bbox")
        # Exact types: bool is an int to isinstance, and numpy would turn None into NaN.
        if not (isinstance(box, list) and len(box) == 4 and all(type(v) in _NUMBERS for v in box)):
            raise UserError(
                f"{path}: {annotation_name(entry, number)}: bbox {str(box)[:60]} is not four "
                "numbers (x, y, width, height): correct it"
            )
        boxes[number] = box
    return boxes


_NUMBERS = (int, float)


def _file_name(path: Path, entry: dict[str, Any]) -> str:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: image id {entry['id']} has no file_name: add it")
    return name


def _size(path: Path, entry: dict[str, Any]) -> tuple[int, int]:
    """(height, width); (0, 0) if the entry lacks one of them."""
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None:
        return 0, 0
    for key, value in (("height", height), ("width", width)):
        if type(value) not in _NUMBERS or not 0 < value < 1e6 or value != int(value):
            raise UserError(
                f"{path}: image id {entry['id']}: {key} {value!r} is not a positive integer: "
                "correct it, or leave width and height out to have them read from the file"
            )
    return int(height), int(width)
