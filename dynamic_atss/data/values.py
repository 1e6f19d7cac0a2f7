"""Reads numbers and flags as exporters write them: "1" and 1.0 for 1, "False" for 0.

Converts only values with a clear meaning. The code that uses other values refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynamic_atss.data.box_modes import read_modes
from dynamic_atss.errors import UserError

_INTEGER = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*")
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")
_LARGEST = 2.0**53  # float64 represents every integer up to it
_FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), 1),
    **dict.fromkeys(("", "0", "0.0", "false", "no", "unspecified", "none"), 0),
}


def as_integer(value: object) -> int | None:
    """Converts a text or an integral float to an integer. Returns None for any other value."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST:
        return int(value)
    match = _INTEGER.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    return int(match[1]) if match else None


def as_number(value: object) -> float | None:
    """Converts a text to a number. Returns None for any other value."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def as_flag(value: object) -> int | None:
    """Converts a digit or word, in any letter case, to 0 or 1. Returns None for any other value.

    VOC's word "Unspecified" and an empty text mean 0.
    """
    return _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None


def as_box(value: object) -> list[Any] | None:
    """Converts the texts in a list to numbers.

    Returns None if it has no texts, or if a text is no number.
    """
    if not isinstance(value, list) or not any(isinstance(v, str) for v in value):
        return None
    found = [as_number(v) if isinstance(v, str) else v for v in value]
    return None if None in found else found


# Converters by list and key of a COCO file. Width, height and flags may be floats without them.
_READERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "images": {"id": as_integer},
    "categories": {"id": as_integer},
    "annotations": {
        "id": as_integer,
        "image_id": as_integer,
        "category_id": as_integer,
        "bbox": as_box,
        "area": as_number,
        "iscrowd": as_flag,
        "ignore": as_flag,
    },
}
_REFERENCES = (("images", "image_id"), ("categories", "category_id"))
_SIZES = ("width", "height")


def read_values(path: Path, content: dict[str, Any]) -> list[str]:
    """Converts values of a COCO file that are written in another form to numbers, in place.

    Returns notes with the counts.

    Args:
        path: the file, for messages.
        content: has lists of objects under "images", "categories" and "annotations".

    Raises UserError if ids are texts and an annotation refers to another value.
    """
    numbered = [_number(path, content, *keys) for keys in _REFERENCES]
    found = []
    for part, readers in _READERS.items():
        entries = content.get(part, [])
        found += [_read(entries, part, key, reader) for key, reader in readers.items()]
    texts = [e for e in content.get("images", []) if any(isinstance(e.get(k), str) for k in _SIZES)]
    found += [_read(texts, "images", key, as_integer) for key in _SIZES]
    conversions = "; ".join(filter(None, found))
    converted = f"values read by their meaning: {conversions}" if conversions else ""
    modes = read_modes(path, content.get("annotations", []))
    return [line for line in (*numbered, converted, *modes) if line]


def _number(path: Path, content: dict[str, Any], part: str, key: str) -> str:
    """Replaces ids that are different texts, and references to them, by 1, 2, ... in place.

    Returns a note for the log, or "".
    """
    ids = [entry.get("id") for entry in content.get(part, [])]
    texts = [i for i in ids if isinstance(i, str)]
    if len(set(texts)) < len(ids) or all(as_integer(text) is not None for text in texts):
        return ""
    numbers = {text: number for number, text in enumerate(texts, 1)}
    annotations = content.get("annotations", [])
    _check_references(path, part, key, [entry.get(key) for entry in annotations], numbers)
    for entry, text in zip(content[part], texts, strict=True):
        entry["id"] = numbers[text]
    for entry in annotations:
        entry[key] = numbers[entry[key]]
    return (
        f"the ids of '{part}' are texts, such as {texts[0]!r}: they become 1 to {len(texts)} in "
        "the order of the file, also in results"
    )


def _check_references(
    path: Path, part: str, key: str, values: list[Any], known: dict[str, int]
) -> None:
    """Raises UserError if a value is not one of the known texts.

    An integer could match one of the new numbers by chance.
    """
    wrong = [v for v in values if not isinstance(v, str) or v not in known]
    if wrong:
        shown = ", ".join(repr(text) for text in list(known)[:3])
        dots = ", ..." if len(known) > 3 else ""
        raise UserError(
            f"{path}: the ids of '{part}' are texts ({shown:.90}{dots}), but the {key} of "
            f"{len(wrong)} of {len(values)} annotations is something else, such as "
            f"{wrong[0]!r:.40}: write an id of '{part}' there"
        )


def _read(entries: list[dict[str, Any]], part: str, key: str, reader: Callable[[Any], Any]) -> str:
    """Converts the values of a key, in place. Describes it with an example.

    Returns "" if nothing was converted.
    """
    count, example = 0, ""
    for entry in entries:
        value = entry.get(key)
        if type(value) is int or value is None:
            continue
        number = reader(value)
        if number is None:
            continue
        entry[key] = number
        count += 1
        example = example or f"{value!r} as {number!r}"
    return f"{key} of {count} {part}, such as {example}" if count else ""
