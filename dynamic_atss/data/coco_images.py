"""Reads file names and sizes of a COCO file's images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dynamic_atss.data.coco_boxes import NUMBERS
from dynamic_atss.data.wording import short
from dynamic_atss.errors import UserError


def file_name_of(path: Path, entry: dict[str, Any]) -> str:
    """Returns `file_name`, in any spelling of the key. Returns "" if there is none.

    LVIS has only `coco_url`. The last two parts of the URL are then the name.
    """
    key = _name_key(entry) or "file_name"
    name = entry.get(key, "")
    if not isinstance(name, str):
        raise UserError(
            f"{path}: image id {entry['id']}: {key} {short(name)} is not a text: correct it"
        )
    return "/".join(name.split("/")[-2:]) if key == "coco_url" else name


def _name_key(entry: dict[str, Any]) -> str:
    """Returns the key that names the file. Returns "" if there is none."""
    if "file_name" in entry:
        return "file_name"
    spelt = (key for key in entry if re.sub(r"[^a-z]", "", key.lower()) == "filename")
    return next(spelt, "coco_url" if "coco_url" in entry else "")


def note_names(images: Iterable[dict[str, Any]]) -> list[str]:
    """Returns a line for the log for each other spelling of the key file_name."""
    keys = Counter(_name_key(entry) for entry in images)
    return [
        f"'{key}' of {count} images is read as file_name"
        for key, count in keys.items()
        if key not in ("", "file_name", "coco_url")
    ]


def _has_placeholder(entry: dict[str, Any]) -> bool:
    """Returns True if a side is 0 or -1. Exporters that do not open the picture write this."""
    return any(type(v) in NUMBERS and v in (0, -1) for v in map(entry.get, ("height", "width")))


def note_placeholders(images: Iterable[dict[str, Any]]) -> list[str]:
    """Returns a line for the log on images with a side of 0 or -1."""
    count = sum(map(_has_placeholder, images))
    return [f"width or height of {count} images is 0 or -1, taken as missing"] if count else []


def size_of(path: Path, entry: dict[str, Any]) -> tuple[int, int]:
    """Returns (height, width). Returns (0, 0) if one of them is missing, 0 or -1.

    Raises UserError if a side is not a positive integer.
    """
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None or _has_placeholder(entry):
        return 0, 0
    for key, value in (("height", height), ("width", width)):
        if type(value) not in NUMBERS or not 0 < value < 1e6 or value != int(value):
            raise UserError(
                f"{path}: image id {entry['id']}: {key} {short(value)} is not a positive integer: "
                "correct it, or leave width and height out to have them read from the file"
            )
    return int(height), int(width)
