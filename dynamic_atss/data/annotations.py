"""COCO JSON -> packed numpy arrays, with every mistake of the file told in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from dynamic_atss.data.rotation import count_rotated, rotation_of
from dynamic_atss.errors import UserError

LARGEST_ID = 2**53  # of images and categories: tables of results hold them as float64


@dataclass(frozen=True)
class Annotations:
    """What a data set's files say: n images by ascending id, A boxes image by image.

    image_ids (n,) int64 · names (n,) str of the files, "" where the file has none ·
    sizes (n, 2) int64 height, width, 0 where the file has none ·
    xywh (A, 4) float64 as in the file · areas (A,) float64, w * h where the file has none ·
    classes (A,) int64 in 0..C-1, the order of `categories` ·
    image (A,) int64 index into the images, ascending ·
    crowd (A,) bool: neither trained on nor a fault of the detector (VOC: difficult) ·
    flagged, how many of these are so by an "ignore" flag alone ·
    rotated, how many are marked as rotated, and the first of them: the mark is not used
    """

    image_ids: np.ndarray
    names: np.ndarray
    sizes: np.ndarray
    class_names: list[str]
    category_ids: list[int]
    xywh: np.ndarray
    areas: np.ndarray
    classes: np.ndarray
    image: np.ndarray
    crowd: np.ndarray
    flagged: int = 0
    rotated: tuple[int, str] = (0, "")

    @classmethod
    def of_rows(
        cls, names: Sequence[str], class_names: Sequence[str], rows: Sequence[Sequence[float]]
    ) -> Annotations:
        """Of a format that lists boxes in any order. Image ids and category ids count from 1.

        Args:
            names: the image files.
            class_names: the classes.
            rows: (index of the image, index of the class, x, y, w, h) of each box, in pixels.
        """
        table = np.array(rows, np.float64).reshape(-1, 6)
        table = table[np.argsort(table[:, 0], kind="stable")]
        xywh = table[:, 2:]
        return cls(
            image_ids=np.arange(1, len(names) + 1),
            names=np.array(names, dtype=str),
            sizes=np.zeros((len(names), 2), np.int64),
            class_names=list(class_names),
            category_ids=list(range(1, len(class_names) + 1)),
            xywh=xywh,
            areas=xywh[:, 2] * xywh[:, 3],
            classes=table[:, 1].astype(np.int64),
            image=table[:, 0].astype(np.int64),
            crowd=np.zeros(len(table), bool),
        )


def read_annotations(path: Path, *, need_boxes: bool) -> Annotations:
    """Reads and checks a COCO file.

    need_boxes: the file must have `annotations` (those of test sets have none).
    Raises UserError: file missing or broken, entries missing, ids unknown or given twice,
    malformed boxes.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: the top level is a {type(content).__name__}, not an object with 'images', "
            "'annotations' and 'categories': give a COCO annotation file"
        )
    for key in ("images", "categories", *(["annotations"] if need_boxes else [])):
        if key not in content:
            raise UserError(f"{path}: no '{key}': give a file in COCO's detection format")
    for key in ("images", "categories", "annotations"):
        _check_entries(path, key, content.get(key, []))
    category_ids = _ids(path, "category", content["categories"], LARGEST_ID)
    image_ids = _ids(path, "image", content["images"], LARGEST_ID)
    entries = content.get("annotations", [])
    _ids(path, "annotation", [e for e in entries if "id" in e], math.inf)
    order = np.argsort(np.array(image_ids, dtype=np.int64), kind="stable")
    images = [content["images"][i] for i in order]
    classes = _lookup(path, entries, "category_id", category_ids, "categories")
    image = _lookup(path, entries, "image_id", [image_ids[i] for i in order], "images")
    by_image = np.argsort(image, kind="stable")
    xywh = _boxes(path, entries)
    crowd, ignored = (_flags(path, entries, key) for key in ("iscrowd", "ignore"))
    return Annotations(
        image_ids=np.array(image_ids, dtype=np.int64)[order],
        names=np.array([_file_name(path, e) for e in images], dtype=np.str_),
        sizes=np.array([_size(path, e) for e in images], dtype=np.int64).reshape(-1, 2),
        class_names=[str(e.get("name", e["id"])) for e in content["categories"]],
        category_ids=category_ids,
        xywh=xywh[by_image],
        areas=_areas(entries, xywh)[by_image],
        classes=classes[by_image],
        image=image[by_image],
        crowd=(crowd | ignored)[by_image],
        flagged=int((ignored & ~crowd).sum()),
        rotated=count_rotated(
            (_annotation_name(entry, n), rotation_of(entry)) for n, entry in enumerate(entries)
        ),
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError: the file is missing, unreadable or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such JSON file: check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path}: broken JSON at {where} ({error.msg}): mend it or fetch the file again"
        ) from None
    except (ValueError, RecursionError) as error:  # other than UTF-8; numbers of 4301 digits
        raise UserError(f"{path}: not a JSON text ({error}): give a JSON file") from None


def _check_entries(path: Path, key: str, entries: object) -> None:
    if not isinstance(entries, list):
        raise UserError(f"{path}: '{key}' is not a list: give a COCO annotation file")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} of '{key}' is not an object: correct it")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _ids(path: Path, kind: str, entries: Iterable[dict[str, Any]], largest: float) -> list[int]:
    """The `id` of every entry: integers from -largest to largest, none twice."""
    seen: set[int] = set()
    ids = []
    for number, entry in enumerate(entries):
        value = entry.get("id")
        if not _is_integer(value) or abs(value) > largest:
            raise UserError(
                f"{path}: the id of {kind} number {number} is {_short(value)}: make it an integer"
                + (" of at most 2^53" if largest == LARGEST_ID else "")
            )
        if value in seen:
            raise UserError(f"{path}: {kind} id {value} is there twice: give each its own id")
        seen.add(value)
        ids.append(value)
    return ids


def _annotation_name(entry: dict[str, Any], number: int) -> str:
    """How messages call an annotation: by its id, or by its place in the file."""
    return (
        f"annotation id {_short(entry['id'])}" if "id" in entry else f"annotation number {number}"
    )


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
                f"{path}: {_annotation_name(entry, number)}: {key} {_short(value)} is not among "
                f"the ids of '{where}': add it there or correct the annotation"
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
                f"{path}: {_annotation_name(entry, number)}: bbox {_short(box)} is not four "
                "numbers (x, y, width, height): correct it"
            )
        try:
            boxes[number] = box
        except OverflowError:  # an integer that float64 cannot hold; JSON's 1e999 is inf, too
            boxes[number] = math.inf
    return boxes


def _areas(entries: list[dict[str, Any]], xywh: np.ndarray) -> np.ndarray:
    """(A,) float64: of the objects' outlines where the file has them, else of the boxes."""
    areas = np.array([_number(e.get("area")) for e in entries], dtype=np.float64)
    with np.errstate(all="ignore"):  # boxes of infinite extent
        return np.where(np.isfinite(areas), areas, xywh[:, 2] * xywh[:, 3])


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value) if type(value) in _NUMBERS else math.nan
    except OverflowError:
        return math.inf


def _flags(path: Path, entries: list[dict[str, Any]], key: str) -> np.ndarray:
    """(A,) bool: the entries whose `key` is 1; without it they are not."""
    for number, entry in enumerate(entries):
        if entry.get(key) not in (0, 1, None):
            raise UserError(
                f"{path}: {_annotation_name(entry, number)}: {key} {_short(entry[key])} is "
                "neither 0 nor 1: correct it"
            )
    return np.array([bool(e.get(key)) for e in entries], dtype=bool)


_NUMBERS = (int, float)


def _file_name(path: Path, entry: dict[str, Any]) -> str:
    """`file_name`, or the last two parts of `coco_url`, which is all that LVIS gives."""
    key = "coco_url" if "file_name" not in entry and "coco_url" in entry else "file_name"
    name = entry.get(key, "")
    if not isinstance(name, str):
        raise UserError(
            f"{path}: image id {entry['id']}: {key} {_short(name)} is not a text: correct it"
        )
    return name if key == "file_name" else "/".join(name.split("/")[-2:])


def _size(path: Path, entry: dict[str, Any]) -> tuple[int, int]:
    """(height, width); (0, 0) if the entry lacks one of them."""
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None:
        return 0, 0
    for key, value in (("height", height), ("width", width)):
        if type(value) not in _NUMBERS or not 0 < value < 1e6 or value != int(value):
            raise UserError(
                f"{path}: image id {entry['id']}: {key} {_short(value)} is not a positive integer: "
                "correct it, or leave width and height out to have them read from the file"
            )
    return int(height), int(width)
