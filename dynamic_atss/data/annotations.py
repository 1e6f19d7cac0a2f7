"""COCO JSON -> packed numpy arrays, with every mistake of the file told in one line."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from dynamic_atss.data.flags import means_regions, read_flags
from dynamic_atss.data.recognise import FIX, describe
from dynamic_atss.data.rotation import count_rotated, rotation_of
from dynamic_atss.data.values import read_values
from dynamic_atss.data.wording import annotation_name, more, short
from dynamic_atss.errors import UserError
from dynamic_atss.quoting import printable
from dynamic_atss.reading import JSON_BYTES, KB, check_memory, open_file

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
    notes, what was read by its meaning, and warnings, what may be a mistake: lines for the log ·
    missing_areas, how many have none in the file ·
    odd_areas, how many are no positive numbers, and the first of them; the boxes' are taken ·
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
    notes: tuple[str, ...] = ()
    missing_areas: int = 0
    odd_areas: tuple[int, str] = (0, "")
    warnings: tuple[str, ...] = ()
    rotated: tuple[int, str] = (0, "")

    def __post_init__(self) -> None:
        """Class names go into logs, pictures and files: what cannot be shown becomes an escape."""
        object.__setattr__(self, "class_names", [*map(printable, self.class_names)])

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
    Ids and other numbers may be texts or whole floats (`read_values`); the notes tell it.
    Raises UserError: file missing or broken, entries missing, ids unknown or given twice,
    malformed boxes.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: the top level is {describe(content)}: {FIX}")
    for key in ("images", "categories", *(["annotations"] if need_boxes else [])):
        if key not in content:
            raise UserError(f"{path}: no '{key}': the top level is {describe(content)}: {FIX}")
    for key in ("images", "categories", "annotations"):
        _check_entries(path, key, content.get(key, []))
    notes = read_values(path, content)
    category_ids = _ids(path, "category", content["categories"])
    image_ids = _ids(path, "image", content["images"])
    entries = content.get("annotations", [])
    _check_annotation_ids(path, entries)
    order = np.argsort(np.array(image_ids, dtype=np.int64), kind="stable")
    images = [content["images"][i] for i in order]
    classes = _lookup(path, entries, "category_id", content["categories"], "name")
    image = _lookup(path, entries, "image_id", images, "file_name")
    by_image = np.argsort(image, kind="stable")
    xywh = _boxes(path, entries)
    crowd, ignored, spellings = read_flags(path, entries)
    given = np.array([entry.get("area") is not None for entry in entries], bool)
    areas, without = _areas(entries, xywh)
    odd_areas = _odd_areas(entries, without & given)
    return Annotations(
        image_ids=np.array(image_ids, dtype=np.int64)[order],
        names=np.array([_file_name(path, e) for e in images], dtype=np.str_),
        sizes=np.array([_size(path, e) for e in images], dtype=np.int64).reshape(-1, 2),
        class_names=[str(e.get("name", e["id"])) for e in content["categories"]],
        category_ids=category_ids,
        xywh=xywh[by_image],
        areas=areas[by_image],
        classes=classes[by_image],
        image=image[by_image],
        crowd=(crowd | ignored)[by_image],
        flagged=int((ignored & ~crowd).sum()),
        notes=(*notes, *spellings, *_note_placeholders(images)),
        missing_areas=int((~given).sum()),
        odd_areas=odd_areas,
        warnings=(
            *_warn_of_areas(entries, *odd_areas),
            *_warn_of_regions(content["categories"]),
        ),
        rotated=count_rotated(
            (annotation_name(entry, n), rotation_of(entry)) for n, entry in enumerate(entries)
        ),
    )


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError: the file is missing, unreadable or no JSON."""
    try:
        return json.loads(_json_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such JSON file: check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path}: broken JSON at {where} ({error.msg}): correct it or fetch the file again"
        ) from None
    except (ValueError, RecursionError) as error:  # other than UTF-8; numbers of 4301 digits
        raise UserError(f"{path}: not a JSON text ({error}): give a JSON file") from None


def _json_bytes(path: Path) -> bytes:
    """Raises OSError, and ValueError for what begins as no JSON does, however large it is."""
    with open_file(path, JSON_BYTES) as file:
        check_memory(2 * os.fstat(file.fileno()).st_size)  # as bytes and as a text
        head = file.read(KB)
        if head and not any(sign in head for sign in b'{["'):
            raise ValueError("it begins neither with { nor with [")
        return head + file.read()


def _check_entries(path: Path, key: str, entries: object) -> None:
    if not isinstance(entries, list):
        raise UserError(f"{path}: '{key}' is not a list: give a COCO annotation file")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} of '{key}' is not an object: correct it")


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(path: Path, kind: str, entries: Iterable[dict[str, Any]]) -> list[Any]:
    """The `id` of every entry: integers from -2^53 to 2^53, none twice."""
    ids = [entry.get("id") for entry in entries]
    wrong = [i for i, v in enumerate(ids) if not _is_integer(v) or abs(v) > LARGEST_ID]
    if wrong:
        raise UserError(
            f"{path}: the id of {kind} number {wrong[0]} is {short(ids[wrong[0]])}: make it an "
            f"integer of at most 2^53{more(wrong)}"
        )
    _check_once(path, kind, ids)
    return ids


def _check_annotation_ids(path: Path, entries: list[dict[str, Any]]) -> None:
    """Nothing but messages reads them: they may be texts, or not there."""
    given = (entry.get("id") for entry in entries)
    _check_once(path, "annotation", [v for v in given if isinstance(v, int | str)])


def _check_once(path: Path, kind: str, ids: Sequence[Any]) -> None:
    twice = [(value, times) for value, times in Counter(ids).items() if times > 1]
    if twice:
        value, times = twice[0]
        often = "twice" if times == 2 else f"{times} times"
        raise UserError(
            f"{path}: {kind} id {short(value)} is there {often}: give each its own id{more(twice)}"
        )


def _lookup(
    path: Path, entries: list[dict[str, Any]], key: str, known: list[dict[str, Any]], name: str
) -> np.ndarray:
    """(A,) int64: the place in `known` of the entry with the id that each annotation's `key` gives.

    name: the key of what people may have written in place of the id
    """
    place = {entry["id"]: i for i, entry in enumerate(known)}
    values = [entry.get(key) for entry in entries]
    found = [place.get(v, -1) if _is_integer(v) else -1 for v in values]
    wrong = [i for i, index in enumerate(found) if index < 0]
    if wrong:
        where, value = annotation_name(entries[wrong[0]], wrong[0]), values[wrong[0]]
        raise UserError(
            f"{path}: {where}: {key} {short(value)} is {_meant(value, known, name)}{more(wrong)}"
        )
    return np.array(found, dtype=np.int64)


def _meant(value: object, known: list[dict[str, Any]], name: str) -> str:
    """What is wrong with an id that is unknown, and what to do."""
    part = "categories" if name == "name" else "images"
    for entry in known:
        if isinstance(value, str) and value == entry.get(name):
            return f"the {name} of {part} id {entry['id']}: write that id"
    ids = ", ".join(str(entry["id"]) for entry in known[:5]) + (", ..." if len(known) > 5 else "")
    start = "; the annotations seem to count from 0" if value == 0 else ""
    return f"not among the ids of '{part}' ({ids}{start}): add it there or correct the annotation"


def _boxes(path: Path, entries: list[dict[str, Any]]) -> np.ndarray:
    given = [entry.get("bbox") for entry in entries]
    wrong = [i for i, box in enumerate(given) if not _is_box(box)]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{path}: {annotation_name(entries[first], first)}: bbox {short(given[first])} is "
            f"not four numbers (x, y, width, height): correct it{more(wrong)}"
        )
    boxes = np.empty((len(entries), 4), dtype=np.float64)
    for number, box in enumerate(given):
        try:
            boxes[number] = box
        except OverflowError:  # an integer that float64 cannot hold; JSON's 1e999 is inf, too
            boxes[number] = math.inf
    return boxes


def _is_box(box: object) -> bool:
    """Exact types: bool is an int to isinstance, and numpy would turn None into NaN."""
    return isinstance(box, list) and len(box) == 4 and all(type(v) in _NUMBERS for v in box)


def _areas(entries: list[dict[str, Any]], xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(A,) float64: of the objects' outlines, or of the boxes where the file has none that is
    positive and finite; (A,) bool: these."""
    areas = np.array([_number(e.get("area")) for e in entries], dtype=np.float64)
    without = ~(np.isfinite(areas) & (areas > 0))
    with np.errstate(all="ignore"):  # boxes of infinite extent
        return np.where(without, xywh[:, 2] * xywh[:, 3], areas), without


def _odd_areas(entries: list[dict[str, Any]], wrong: np.ndarray) -> tuple[int, str]:
    if not wrong.any():
        return 0, ""
    number = int(np.argmax(wrong))
    entry = entries[number]
    return int(wrong.sum()), f"{annotation_name(entry, number)}: {short(entry['area'])}"


def _warn_of_areas(entries: list[dict[str, Any]], count: int, example: str) -> list[str]:
    if not count:
        return []
    return [
        f"{count} of {len(entries)} areas are not positive numbers ({example}): width times "
        "height of their boxes is taken, which decides whether scores call them small, medium or "
        "large; correct them, or leave them out"
    ]


def _warn_of_regions(categories: list[dict[str, Any]]) -> list[str]:
    names = [e["name"] for e in categories if isinstance(e.get("name"), str)]
    found = [name for name in names if means_regions(name)]
    return [
        f"category {name!r} is learnt and scored like any other: if its boxes are regions to "
        'ignore, give them "ignore": 1 and the category_id of the class that they may hold'
        for name in found[:1]
    ]


def _number(value: Any) -> float:
    """NaN for what is no number."""
    try:
        return float(value) if type(value) in _NUMBERS else math.nan
    except OverflowError:
        return math.inf


_NUMBERS = (int, float)


def _file_name(path: Path, entry: dict[str, Any]) -> str:
    """`file_name`, or the last two parts of `coco_url`, which is all that LVIS gives."""
    key = "coco_url" if "file_name" not in entry and "coco_url" in entry else "file_name"
    name = entry.get(key, "")
    if not isinstance(name, str):
        raise UserError(
            f"{path}: image id {entry['id']}: {key} {short(name)} is not a text: correct it"
        )
    return name if key == "file_name" else "/".join(name.split("/")[-2:])


def _has_placeholder(entry: dict[str, Any]) -> bool:
    """Whether a side is 0 or -1, which exporters write that have not looked at the picture."""
    return any(type(v) in _NUMBERS and v in (0, -1) for v in map(entry.get, ("height", "width")))


def _note_placeholders(images: Iterable[dict[str, Any]]) -> list[str]:
    count = sum(map(_has_placeholder, images))
    return [f"the width or height of {count} images is 0 or -1, which counts as none"] * bool(count)


def _size(path: Path, entry: dict[str, Any]) -> tuple[int, int]:
    """(height, width); (0, 0) if the entry lacks one of them, or has 0 or -1 in its place."""
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None or _has_placeholder(entry):
        return 0, 0
    for key, value in (("height", height), ("width", width)):
        if type(value) not in _NUMBERS or not 0 < value < 1e6 or value != int(value):
            raise UserError(
                f"{path}: image id {entry['id']}: {key} {short(value)} is not a positive integer: "
                "correct it, or leave width and height out to have them read from the file"
            )
    return int(height), int(width)
