"""Reads COCO JSON into numpy arrays. Reports each mistake of the file in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.coco_boxes import odd_areas_of, read_areas, read_boxes, warn_of_areas
from dynamic_atss.data.coco_ids import check_annotation_ids, look_up, read_ids
from dynamic_atss.data.coco_images import file_name_of, note_names, note_placeholders, size_of
from dynamic_atss.data.flags import means_regions, read_flags, warn_of_likely_flags
from dynamic_atss.data.recognise import FIX, describe
from dynamic_atss.data.rotation import count_rotated, rotation_of
from dynamic_atss.data.values import read_values
from dynamic_atss.data.wording import annotation_name
from dynamic_atss.errors import UserError
from dynamic_atss.quoting import printable
from dynamic_atss.reading import JSON_BYTES, KB, check_memory, open_file
from dynamic_atss.suggest import path_advice


@dataclass(frozen=True)
class Annotations:
    """Holds the annotations of a data set: n images sorted by id, A boxes sorted by image.

    Attributes:
        image_ids: (n,) int64.
        names: (n,) str, the names of the image files, or "" if missing.
        sizes: (n, 2) int64 height, width, or 0 if missing.
        class_names, category_ids: of the C classes, in the order of `categories`.
        xywh: (A, 4) float64 as in the file.
        areas: (A,) float64, or w * h if missing.
        classes: (A,) int64 in 0..C-1.
        image_index: (A,) int64 in 0..n-1, ascending.
        crowd: (A,) bool, True for crowds and for VOC's difficult boxes. They are not trained on,
            and detections of them are no errors.
        flagged: number of boxes that are crowds only because of an "ignore" flag.
        notes: lines for the log on values that were interpreted.
        missing_areas: number of boxes without an area in the file.
        odd_areas: number of areas that are not positive, and the first of them. w * h replaces
            them.
        warnings: lines for the log on likely mistakes.
        rotated: number of boxes marked as rotated, and the first of them. The mark has no effect.
    """

    image_ids: np.ndarray
    names: np.ndarray
    sizes: np.ndarray
    class_names: list[str]
    category_ids: list[int]
    xywh: np.ndarray
    areas: np.ndarray
    classes: np.ndarray
    image_index: np.ndarray
    crowd: np.ndarray
    flagged: int = 0
    notes: tuple[str, ...] = ()
    missing_areas: int = 0
    odd_areas: tuple[int, str] = (0, "")
    warnings: tuple[str, ...] = ()
    rotated: tuple[int, str] = (0, "")

    def __post_init__(self) -> None:
        """Escapes characters of class names that logs, pictures and files cannot show."""
        object.__setattr__(self, "class_names", [*map(printable, self.class_names)])

    @classmethod
    def of_rows(
        cls, names: Sequence[str], class_names: Sequence[str], rows: Sequence[Sequence[float]]
    ) -> Annotations:
        """Makes annotations of boxes in any order. Image ids and category ids start at 1.

        Args:
            names: the names of the image files.
            class_names: the names of the classes.
            rows: (image index, class index, x, y, w, h) of each box, in pixels.
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
            image_index=table[:, 0].astype(np.int64),
            crowd=np.zeros(len(table), bool),
        )


def read_annotations(path: Path, *, need_boxes: bool) -> Annotations:
    """Reads and checks a COCO file.

    Accepts ids and numbers as texts or floats (`read_values`), and notes it.

    Args:
        need_boxes: True if the file must have `annotations`. Files of test sets have none.

    Raises UserError for a missing or damaged file, missing entries, unknown or repeated ids, and
    malformed boxes.
    """
    content = _read_content(path, need_boxes)
    notes = read_values(path, content)
    category_ids = read_ids(path, "category", content["categories"])
    image_ids = read_ids(path, "image", content["images"])
    entries = content.get("annotations", [])
    check_annotation_ids(path, entries)
    order = np.argsort(np.array(image_ids, dtype=np.int64), kind="stable")
    images = [content["images"][i] for i in order]
    classes = look_up(path, entries, "category_id", content["categories"], "name")
    image_index = look_up(path, entries, "image_id", images, "file_name")
    by_image = np.argsort(image_index, kind="stable")
    xywh = read_boxes(path, entries)
    crowd, ignored, spellings = read_flags(path, entries)
    given = np.array([entry.get("area") is not None for entry in entries], bool)
    areas, without = read_areas(entries, xywh)
    odd_areas = odd_areas_of(entries, without & given)
    return Annotations(
        image_ids=np.array(image_ids, dtype=np.int64)[order],
        names=np.array([file_name_of(path, e) for e in images], dtype=np.str_),
        sizes=np.array([size_of(path, e) for e in images], dtype=np.int64).reshape(-1, 2),
        class_names=[str(e.get("name", e["id"])) for e in content["categories"]],
        category_ids=category_ids,
        xywh=xywh[by_image],
        areas=areas[by_image],
        classes=classes[by_image],
        image_index=image_index[by_image],
        crowd=(crowd | ignored)[by_image],
        flagged=int((ignored & ~crowd).sum()),
        notes=(*notes, *spellings, *note_placeholders(images), *note_names(images)),
        missing_areas=int((~given).sum()),
        odd_areas=odd_areas,
        warnings=_likely_mistakes(entries, content["categories"], odd_areas),
        rotated=count_rotated(
            (annotation_name(entry, n), rotation_of(entry)) for n, entry in enumerate(entries)
        ),
    )


def _read_content(path: Path, need_boxes: bool) -> dict[str, Any]:
    """Reads a COCO file and checks that its lists are there. Raises UserError if not."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: the top level is {describe(content)}: {FIX}")
    for key in ("images", "categories", *(["annotations"] if need_boxes else [])):
        if key not in content:
            raise UserError(f"{path}: no '{key}': the top level is {describe(content)}: {FIX}")
    for key in ("images", "categories", "annotations"):
        _check_entries(path, key, content.get(key, []))
    if not content["images"]:
        raise UserError(f"{path}: 'images' is an empty list: give a file that lists images")
    return content


def read_json(path: Path) -> Any:
    """Reads a JSON file. Raises UserError if it is missing, unreadable or not JSON."""
    try:
        return json.loads(_json_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such JSON file: {path_advice(path)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(
            f"{path}: broken JSON at {where} ({error.msg}): correct it or fetch the file again"
        ) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or a number of over 4300 digits
        raise UserError(f"{path}: not JSON ({error}): give a JSON file") from None


def _json_bytes(path: Path) -> bytes:
    """Reads the bytes of a JSON file.

    Raises OSError if it cannot be read. Raises ValueError, before it reads the rest, if the file is
    not JSON.
    """
    with open_file(path, JSON_BYTES) as file:
        check_memory(2 * os.fstat(file.fileno()).st_size)  # for the bytes and the text
        head = file.read(KB)
        if head and not any(sign in head for sign in b'{["'):
            raise ValueError("it does not begin with { or [")
        return head + file.read()


def _check_entries(path: Path, key: str, entries: object) -> None:
    if not isinstance(entries, list):
        raise UserError(f"{path}: '{key}' is not a list: give a COCO annotation file")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: entry {number} of '{key}' is not an object: correct it")


def _likely_mistakes(
    entries: list[dict[str, Any]], categories: list[dict[str, Any]], odd_areas: tuple[int, str]
) -> tuple[str, ...]:
    return (
        *warn_of_areas(entries, *odd_areas),
        *warn_of_likely_flags(entries),
        *_warn_of_regions(categories),
        *_warn_without_names(categories),
    )


def _warn_of_regions(categories: list[dict[str, Any]]) -> list[str]:
    names = [e["name"] for e in categories if isinstance(e.get("name"), str)]
    found = [name for name in names if means_regions(name)]
    return [
        f"category {name!r} is learnt and scored as all others: if its boxes are regions to "
        'ignore, give them "ignore": 1 and the category_id of the class that they may contain'
        for name in found[:1]
    ]


def _warn_without_names(categories: list[dict[str, Any]]) -> list[str]:
    without = [entry["id"] for entry in categories if "name" not in entry]
    if not without:
        return []
    return [
        f"{len(without)} of {len(categories)} categories have no 'name', such as id {without[0]}; "
        "their ids are used: add names, which results and checkpoints store"
    ]
