"""The ids of a COCO file, and what refers to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from dynamic_atss.data.wording import annotation_name, more, short
from dynamic_atss.errors import UserError

LARGEST_ID = 2**53  # of images and categories: tables of results hold them as float64


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def read_ids(path: Path, kind: str, entries: Iterable[dict[str, Any]]) -> list[Any]:
    """The `id` of every entry: integers from -2^53 to 2^53, none twice."""
    ids = [entry.get("id") for entry in entries]
    wrong = [i for i, v in enumerate(ids) if not _is_integer(v) or abs(v) > LARGEST_ID]
    if wrong:
        raise UserError(
            f"{path}: the id of {kind} number {wrong[0]} is {short(ids[wrong[0]])}: make it an "
            f"integer of at most 2^53{more(wrong)}"
        )
    _check_once(path, kind, ids)
    return ids


def check_annotation_ids(path: Path, entries: list[dict[str, Any]]) -> None:
    """Nothing but messages reads them: they may be texts, or not there."""
    given = (entry.get("id") for entry in entries)
    # Large integers as texts: their hashes can be chosen to be all the same.
    _check_once(
        path,
        "annotation",
        [
            v if isinstance(v, str) or abs(v) <= LARGEST_ID else str(v)
            for v in given
            if isinstance(v, int | str)
        ],
    )


def _check_once(path: Path, kind: str, ids: Sequence[Any]) -> None:
    twice = [(value, times) for value, times in Counter(ids).items() if times > 1]
    if twice:
        value, times = twice[0]
        often = "twice" if times == 2 else f"{times} times"
        raise UserError(
            f"{path}: {kind} id {short(value)} is there {often}: give each its own id{more(twice)}"
        )


def look_up(
    path: Path, entries: list[dict[str, Any]], key: str, known: list[dict[str, Any]], name: str
) -> np.ndarray:
    """(A,) int64: the place in `known` of the entry with the id that each annotation's `key` gives.

    name: the key of what people may have written in place of the id
    """
    place = {entry["id"]: i for i, entry in enumerate(known)}
    values = [entry.get(key) for entry in entries]
    found = [place.get(v, -1) if _is_integer(v) else -1 for v in values]
    wrong = [i for i, index in enumerate(found) if index < 0]
    if wrong:
        where, value = annotation_name(entries[wrong[0]], wrong[0]), values[wrong[0]]
        raise UserError(
            f"{path}: {where}: {key} {short(value)} is {_meant(value, known, name)}{more(wrong)}"
        )
    return np.array(found, dtype=np.int64)


def _meant(value: object, known: list[dict[str, Any]], name: str) -> str:
    """What is wrong with an id that is unknown, and what to do."""
    part = "categories" if name == "name" else "images"
    for entry in known:
        if isinstance(value, str) and value == entry.get(name):
            return f"the {name} of {part} id {entry['id']}: write that id"
    ids = ", ".join(str(entry["id"]) for entry in known[:5]) + (", ..." if len(known) > 5 else "")
    start = "; the annotations seem to count from 0" if value == 0 else ""
    return f"not among the ids of '{part}' ({ids}{start}): add it there or correct the annotation"
