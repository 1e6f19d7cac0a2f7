"""Detects miswritten names of data sets, and says how to write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dynamic_atss.config.special_keys import DATA_FORMATS
from dynamic_atss.errors import UserError

_NO_FORMAT = "the format in front is missing"
_FOLDER_FIRST = "the image folder comes before the annotation file"
_SPLIT_FIRST = "the split comes first"


def refuse_miswritten(key: str, names: Iterable[object]) -> None:
    """Raises UserError if a name lacks its format, or has its parts in the wrong order.

    Args:
        key: the configuration key that holds the names.
        names: the names; entries that are not texts are skipped.
    """
    for name in names:
        correction = _correction(name) if isinstance(name, str) else None
        if correction:
            fault, correct = correction
            raise UserError(f"{key} {name!r}: {fault}: write {correct}")


def _correction(name: str) -> tuple[str, str] | None:
    """Gives the fault of a name and the correct name; None if no fault is known."""
    data_format, colon, parts = name.partition(":")
    if colon and data_format in DATA_FORMATS:
        return _swapped(data_format, parts)
    if name.count(":") > 1:  # a format of the user, such as my.py:Name:labels.json
        return None
    completed = (_with_format(data_format, name) for data_format in DATA_FORMATS)
    return next(((_NO_FORMAT, full) for full in completed if full), None)


def _with_format(data_format: str, name: str) -> str:
    """Adds a format to a name that lacks it; "" if the name does not look like that format."""
    if _begins_correctly(data_format, name):
        return f"{data_format}:{name}"
    if _is_first_part(data_format, name) and ":" not in name:
        second = "<image folder>" if data_format == "coco" else "<split>"
        return f"{data_format}:{name}:{second}"
    swapped = _swapped(data_format, name)
    return swapped[1] if swapped else ""


def _swapped(data_format: str, parts: str) -> tuple[str, str] | None:
    """Gives the fault and the correct name if the two parts are in the wrong order, else None."""
    first, _, second = parts.rpartition(":")
    if len(first) < 2:  # a drive of Windows
        return None
    if _begins_correctly(data_format, parts) or not _is_first_part(data_format, second):
        return None
    fault = _FOLDER_FIRST if data_format == "coco" else _SPLIT_FIRST
    return fault, f"{data_format}:{second}:{first}"


def _begins_correctly(data_format: str, parts: str) -> bool:
    """Returns True if there are two parts, and the first fits the format's first part."""
    ends = [m.start() for m in re.finditer(":", parts)]
    return any(_is_first_part(data_format, parts[:end]) for end in ends)


def _is_first_part(data_format: str, part: str) -> bool:
    """Returns True if `part` fits the format's first part: an annotation file or devkit folder."""
    if data_format == "voc":
        return (Path(part).expanduser() / "ImageSets").is_dir()
    endings = {"coco": (".json",), "yolo": (".yaml", ".yml")}
    return part.lower().endswith(endings[data_format])
