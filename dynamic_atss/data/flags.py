"""Flags of COCO annotations: crowds, and objects to ignore, in the spellings of exporters."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.values import as_flag
from dynamic_atss.data.wording import annotation_name, more, short
from dynamic_atss.errors import UserError

# In lower case and without signs between words; of the annotation or of its "attributes".
_SPELLINGS = {
    "iscrowd": ("iscrowd", "crowd"),
    "ignore": ("ignore", "ignored", "isignore", "isignored", "ignoreflag", "difficult"),
}
_REGIONS = re.compile(r"ignored?(regions?|areas?)?|(dont|donot)care(regions?|areas?)?")

Entries = Sequence[dict[str, Any]]


def read_flags(path: Path, entries: Entries) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(A,) bool of the crowds, (A,) bool of those to ignore, and which other spellings were read.

    Raises UserError: a flag is neither yes nor no.
    """
    given = [entry.get("attributes") for entry in entries]
    attributes = [value if isinstance(value, dict) else {} for value in given]
    found = {key: np.zeros(len(entries), bool) for key in _SPELLINGS}
    notes = []
    for place, parts in (("", entries), ("attributes.", attributes)):
        for name, key in _flags_in(parts):
            values = _values(path, entries, parts, place, name)
            found[key] |= np.array([value == 1 for value in values], bool)
            if place + name != key:
                count = sum(value is not None for value in values)
                yes = sum(value == 1 for value in values)
                notes.append(
                    f"'{place}{name}' of {count} annotations is read as {key}: {yes} say yes"
                )
    return found["iscrowd"], found["ignore"], notes


def means_regions(category: str) -> bool:
    """Whether a category is named as if it marked regions to ignore."""
    return _REGIONS.fullmatch(_plain(category)) is not None


def _flags_in(parts: Entries) -> list[tuple[str, str]]:
    """(name as written, key that it means) of the flags that some of the entries have."""
    names = sorted({name for part in parts for name in part})
    return [(n, key) for n in names for key, known in _SPELLINGS.items() if _plain(n) in known]


def _values(
    path: Path, entries: Entries, parts: Entries, place: str, name: str
) -> list[int | None]:
    """0, 1 or None, not given, of each entry. JSON's false equals 0, its true 1."""
    values = [_value(part.get(name)) for part in parts]
    wrong = [i for i, value in enumerate(values) if value not in (0, 1, None)]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{path}: {annotation_name(entries[first], first)}: {place}{name} "
            f"{short(parts[first][name])} is neither 0 nor 1: correct it{more(wrong)}"
        )
    return values


def _value(value: Any) -> Any:
    """Of a text what it means; as it is where it means nothing."""
    meant = as_flag(value)
    return value if meant is None else meant


@functools.cache
def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())
