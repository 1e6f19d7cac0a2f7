"""Flags of COCO annotations: crowds, and objects to ignore, in the spellings of exporters."""

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
from dynamic_atss.data.wording import annotation_name, more, short
from dynamic_atss.errors import UserError

# In lower case and without signs between words; of the annotation or of its "attributes".
_SPELLINGS = {
    "iscrowd": re.compile(r"(is)?crowd"),
    "ignore": re.compile(r"(is|gt)?(ignored?|difficult|(dont|donot)care)(flag|region)?"),
}
_LIKELY = re.compile(r"ignor|crowd|difficult|dontcare|donotcare")  # somewhere in such a name
_REGIONS = re.compile(r"ignored?(regions?|areas?)?|(dont|donot)care(regions?|areas?)?")

Entries = Sequence[dict[str, Any]]


def read_flags(path: Path, entries: Entries) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(A,) bool of the crowds, (A,) bool of those to ignore, and which other spellings were read.

    Raises UserError: a flag is neither yes nor no.
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
                    f"'{place}{name}' of {count} annotations is read as {key}: {yes} say yes"
                )
    return found["iscrowd"], found["ignore"], notes


def flag_of(name: str) -> str:
    """The flag that a name means, "iscrowd" or "ignore"; "" if it is none of the spellings."""
    plain = _plain(name)
    return next((key for key, known in _SPELLINGS.items() if known.fullmatch(plain)), "")


def warn_of_likely_flags(entries: Entries) -> list[str]:
    """A line for each name that looks like a flag, is none of the spellings, and says yes."""
    found: Counter[str] = Counter()
    for entry in entries:
        for place, part in (("", entry), ("attributes.", attributes_of(entry))):
            found.update(place + name for name, value in part.items() if _says(name, value))
    return [
        f"'{name}' of {count} annotations says yes and is not read: if it marks boxes to ignore, "
        'call it "ignore"'
        for name, count in found.items()
    ]


def _says(name: str, value: Any) -> bool:
    """Whether it looks like a flag that is set, but is none that is read."""
    known = _LIKELY.search(_plain(name)) and not flag_of(name)
    return bool(known) and type(_value(value)) in (bool, int, float) and _value(value) == 1


def means_regions(category: str) -> bool:
    """Whether a category is named as if it marked regions to ignore."""
    return _REGIONS.fullmatch(_plain(category)) is not None


def _flags_in(parts: Entries) -> list[tuple[str, str]]:
    """(name as written, key that it means) of the flags that some of the entries have."""
    names = sorted({name for part in parts for name in part})
    return [(name, key) for name in names if (key := flag_of(name))]


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
