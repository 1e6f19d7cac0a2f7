"""Checks the ids of a COCO file and the references to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from dynamic_atss.data.wording import and_others, annotation_name, short
from dynamic_atss.errors import UserError

LARGEST_ID = 2**53  # limit for images and categories, because results store ids as float64


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def read_ids(path: Path, kind: str, entries: Iterable[dict[str, Any]]) -> list[Any]:
    """Returns the `id` of every entry. Raises UserError unless they are different integers."""
    ids = [entry.get("id") for entry in entries]
    wrong = [i for i, v in enumerate(ids) if not _is_integer(v) or abs(v) > LARGEST_ID]
    if wrong:
        raise UserError(
            f"{path}: the id of {kind} number {wrong[0]} is {short(ids[wrong[0]])}: make it an "
            f"integer of at most 2^53{and_others(wrong)}"
        )
    _check_once(path, kind, ids)
    return ids


def check_annotation_ids(path: Path, entries: list[dict[str, Any]]) -> None:
    """Raises UserError for a repeated id of an annotation.

    Ids may be texts or missing, because only messages use them.
    """
    given = (entry.get("id") for entry in entries)
    # Large integers become texts, because a file can choose them so that all have the same hash.
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
    repeated = [(value, count) for value, count in Counter(ids).items() if count > 1]
    if repeated:
        value, count = repeated[0]
        raise UserError(
            f"{path}: {kind} id {short(value)} occurs {count} times: give each {kind} a different "
            f"id{and_others(repeated)}"
        )


def look_up(
    path: Path, entries: list[dict[str, Any]], key: str, known: list[dict[str, Any]], name: str
) -> np.ndarray:
    """Returns (A,) int64: for each annotation, the index in `known` of the id under `key`.

    Args:
        path: the file, for messages.
        entries: the annotations.
        key: "category_id" or "image_id".
        known: the entries that have the ids.
        name: the key of the name that people write in place of the id by mistake.

    Raises UserError for an id that `known` lacks.
    """
    index_of = {entry["id"]: i for i, entry in enumerate(known)}
    values = [entry.get(key) for entry in entries]
    found = [index_of.get(v, -1) if _is_integer(v) else -1 for v in values]
    wrong = [i for i, index in enumerate(found) if index < 0]
    if wrong:
        where, value = annotation_name(entries[wrong[0]], wrong[0]), values[wrong[0]]
        problem = f"{key} {short(value)} is {_problem(value, known, name)}"
        raise UserError(f"{path}: {where}: {problem}{and_others(wrong)}")
    return np.array(found, dtype=np.int64)


def _problem(value: object, known: list[dict[str, Any]], name: str) -> str:
    """Says why an id is unknown, and how to correct it."""
    part = "categories" if name == "name" else "images"
    for entry in known:
        if isinstance(value, str) and value == entry.get(name):
            return f"the {name} of {part} id {entry['id']}: write that id"
    ids = ", ".join(str(entry["id"]) for entry in known[:5]) + (", ..." if len(known) > 5 else "")
    start = "; the annotations seem to count from 0" if value == 0 else ""
    return f"not among the ids of '{part}' ({ids}{start}): add it there or correct the annotation"
