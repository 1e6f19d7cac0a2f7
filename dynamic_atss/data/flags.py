"""Reads the flags of COCO annotations for crowds and objects to ignore, in any known spelling."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.attributes import attributes_of
from dynamic_atss.data.values import as_flag
from dynamic_atss.data.wording import and_others, annotation_name, short
from dynamic_atss.errors import UserError

# The patterns match keys of an annotation or of its "attributes", as lower-case letters only.
_SPELLINGS = {
    "iscrowd": re.compile(r"(is)?crowd"),
    "ignore": re.compile(r"(is|gt)?(ignored?|difficult|(dont|donot)care)(flag|region)?"),
}
_LIKELY = re.compile(r"ignor|crowd|difficult|dontcare|donotcare")  # parts of names of flags
_REGIONS = re.compile(r"ignored?(regions?|areas?)?|(dont|donot)care(regions?|areas?)?")

Entries = Sequence[dict[str, Any]]


def read_flags(path: Path, entries: Entries) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns (A,) bool for crowds, (A,) bool for boxes to ignore, and notes on other spellings.

    Raises UserError for a flag that is neither yes nor no.
    """
    attributes = [attributes_of(entry) for entry in entries]
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
                    f"'{place}{name}' of {count} annotations is read as {key}; {yes} are set"
                )
    return found["iscrowd"], found["ignore"], notes


def flag_of(name: str) -> str:
    """Returns the flag that a name means, "iscrowd" or "ignore". Returns "" for other names."""
    letters = _letters(name)
    return next((key for key, known in _SPELLINGS.items() if known.fullmatch(letters)), "")


def warn_of_likely_flags(entries: Entries) -> list[str]:
    """Returns a warning for each name that looks like a flag and is set, but is not read."""
    found: Counter[str] = Counter()
    for entry in entries:
        for place, part in (("", entry), ("attributes.", attributes_of(entry))):
            found.update(place + n for n, value in part.items() if _is_unread_flag(n, value))
    return [
        f"'{name}' is set in {count} annotations but not read: if it marks boxes to ignore, "
        'call it "ignore"'
        for name, count in found.items()
    ]


def _is_unread_flag(name: str, value: Any) -> bool:
    likely = _LIKELY.search(_letters(name)) and not flag_of(name)
    return bool(likely) and type(_value(value)) in (bool, int, float) and _value(value) == 1


def means_regions(category: str) -> bool:
    """Returns True if the name of a category suggests regions to ignore."""
    return _REGIONS.fullmatch(_letters(category)) is not None


def _flags_in(parts: Entries) -> list[tuple[str, str]]:
    """Returns (name as written, flag that it means) for the flags in the entries."""
    names = sorted({name for part in parts for name in part})
    return [(name, key) for name in names if (key := flag_of(name))]


def _values(
    path: Path, entries: Entries, parts: Entries, place: str, name: str
) -> list[int | None]:
    """Returns 0, 1 or None (missing) for each entry.

    JSON's false equals 0 and its true equals 1.
    """
    values = [_value(part.get(name)) for part in parts]
    wrong = [i for i, value in enumerate(values) if value not in (0, 1, None)]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{path}: {annotation_name(entries[first], first)}: {place}{name} "
            f"{short(parts[first][name])} is neither 0 nor 1: correct it{and_others(wrong)}"
        )
    return values


def _value(value: Any) -> Any:
    """Converts a text to the flag that it means. Returns other values unchanged."""
    meant = as_flag(value)
    return value if meant is None else meant


@functools.cache
def _letters(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())
