"""Reads the names in a split file of a VOC devkit, in any form in which people write them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dynamic_atss.data.file_names import match_names
from dynamic_atss.errors import UserError
from dynamic_atss.reading import LIST_BYTES, read_text

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # letter case is free
_FOLDERS = ("JPEGImages", "Annotations")


def listed_names(folder: Path, split: Path) -> list[str]:
    """Reads the names of a split file, without the flags in a second column (see `VocDataset`).

    Names may have blanks. There are no flags if the entire first line names an image.
    """
    lines = read_lines(split)
    flagged = [re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line) for line in lines]
    names = [found[1] for found in flagged if found]
    if len(names) < len(lines) or (folder / "Annotations" / f"{lines[0]}.xml").is_file():
        return lines
    check_once(split, names)
    return names


def plain_names(listed: Sequence[str], known: Sequence[str], folder: Path) -> list[str]:
    """Converts listed names to names without ending, relative to Annotations.

    A list may have images with endings, paths through JPEGImages, an image and its XML file in one
    line, and forms that `file_names.match_names` corrects.

    Args:
        listed: the names in the split file.
        known: the names that exist.
        folder: the folder Annotations.
    """
    existing = set(known)
    names = [name if name in existing else _without_ending(name) for name in listed]
    missing = [name for name in names if name not in existing]
    found = match_names(missing, known, existing.intersection(names), folder)
    return [found.get(name, name) for name in names]


def _without_ending(name: str) -> str:
    """Converts `some/JPEGImages/sub/a.jpg` to `sub/a`."""
    image = re.fullmatch(r"(.*\S)\s+\S+\.xml", name, re.IGNORECASE)
    parts = (image[1] if image else name).replace("\\", "/").split("/")
    places = [k for k, part in enumerate(parts) if part in _FOLDERS]
    path = "/".join(parts[places[-1] + 1 :] if places else parts).removeprefix("./")
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in (*IMAGE_ENDINGS, ".xml") else path


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file. Leaves out blank lines.

    Raises UserError for a file that is empty or not text, and for a repeated line.
    """
    try:
        lines = [line.strip() for line in read_text(path, LIST_BYTES).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}): give a text file in UTF-8") from None
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path}: is empty: write one name per line")
    check_once(path, lines)
    return lines


def check_once(path: Path, names: Sequence[str]) -> None:
    """Raises UserError if a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: '{name}' occurs twice: remove one")
        seen.add(name)
