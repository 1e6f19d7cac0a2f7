"""Names of data sets that are written in another way than they are meant: how to write them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dynamic_atss.config.kinds import DATA_FORMATS
from dynamic_atss.errors import UserError

_NO_FORMAT = "the format in front is missing"
_FOLDER_FIRST = "the image folder stands before the annotation file"
_SPLIT_FIRST = "the split stands first"


def refuse_miswritten(key: str, names: Iterable[object]) -> None:
    """Raises UserError: a name lacks its format, or has its parts in the wrong order.

    key: which holds the names · names: those that are no texts are passed over
    """
    for name in names:
        found = _meant(name) if isinstance(name, str) else None
        if found:
            raise UserError(f"{key} {name!r}: {found[0]}: write {found[1]}")


def _meant(name: str) -> tuple[str, str] | None:
    """What is wrong, and the name that is meant; None if nothing is known to be wrong."""
    kind, colon, rest = name.partition(":")
    if colon and kind in DATA_FORMATS:
        return _turned(kind, rest)
    if name.count(":") > 1:  # a format of the user's, as my.py:Name:labels.json
        return None
    found = (_with_format(kind, name) for kind in DATA_FORMATS)
    return next(((_NO_FORMAT, full) for full in found if full), None)


def _with_format(kind: str, name: str) -> str:
    """A name without a format as that of one; "" if it does not look like it."""
    if _begins_with(kind, name):
        return f"{kind}:{name}"
    if _is_first(kind, name) and ":" not in name:
        return f"{kind}:{name}:{'<image folder>' if kind == 'coco' else '<split>'}"
    turned = _turned(kind, name)
    return turned[1] if turned else ""


def _turned(kind: str, rest: str) -> tuple[str, str] | None:
    """What is wrong with two parts in the wrong order, and the right name."""
    first, _, second = rest.rpartition(":")
    if len(first) < 2 or _begins_with(kind, rest) or not _is_first(kind, second):
        return None  # one letter: a drive of Windows
    return _FOLDER_FIRST if kind == "coco" else _SPLIT_FIRST, f"{kind}:{second}:{first}"


def _begins_with(kind: str, rest: str) -> bool:
    """Whether two parts are there, and the first is what a format has first."""
    ends = [m.start() for m in re.finditer(":", rest)]
    return any(_is_first(kind, rest[:end]) for end in ends)


def _is_first(kind: str, part: str) -> bool:
    """Whether a part of a name is what the format has first."""
    if kind == "voc":
        return (Path(part).expanduser() / "ImageSets").is_dir()
    endings = {"coco": (".json",), "yolo": (".yaml", ".yml")}
    return part.lower().endswith(endings[kind])
