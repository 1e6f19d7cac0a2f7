"""The images that a split file of a VOC devkit lists, in the forms that people write them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dynamic_atss.data.file_names import match
from dynamic_atss.data.texts import read_text
from dynamic_atss.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # in any case
_FOLDERS = ("JPEGImages", "Annotations")


def listed_names(folder: Path, split: Path) -> list[str]:
    """The names that a split file lists, without the flags in a second column: see `VocDataset`.

    A name may hold blanks: where the first line as it stands is an image, there are no flags.
    """
    lines = read_lines(split)
    flagged = [re.fullmatch(r"(.*\S)\s+(?:-1|0|1)", line) for line in lines]
    names = [found[1] for found in flagged if found]
    if len(names) < len(lines) or (folder / "Annotations" / f"{lines[0]}.xml").is_file():
        return lines
    check_once(split, names)
    return names


def plain_names(listed: Sequence[str], known: Sequence[str], folder: Path) -> list[str]:
    """Names without ending, relative to Annotations, of which `known` are there.

    A list may have images with their endings, paths through JPEGImages, an image and its XML file
    in one line, and what `file_names.match` puts right.
    """
    there = set(known)
    names = [name if name in there else _without_ending(name) for name in listed]
    missing = [name for name in names if name not in there]
    found = match(missing, known, there.intersection(names), folder)
    return [found.get(name, name) for name in names]


def _without_ending(name: str) -> str:
    """`some/JPEGImages/sub/a.jpg` -> `sub/a`."""
    image = re.fullmatch(r"(.*\S)\s+\S+\.xml", name, re.IGNORECASE)
    parts = (image[1] if image else name).replace("\\", "/").split("/")
    places = [k for k, part in enumerate(parts) if part in _FOLDERS]
    path = "/".join(parts[places[-1] + 1 :] if places else parts).removeprefix("./")
    stem, ending = os.path.splitext(path)
    return stem if ending.lower() in (*IMAGE_ENDINGS, ".xml") else path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blank ones. Raises UserError: none, one twice, no text."""
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}): give a text in UTF-8") from None
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{path}: is empty: write one name a line")
    check_once(path, lines)
    return lines


def check_once(path: Path, names: Sequence[str]) -> None:
    """Raises UserError: a name is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{path}: '{name}' is there twice: take one out")
        seen.add(name)
