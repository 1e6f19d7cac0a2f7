"""Reads boxes and areas of a COCO file's annotations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.wording import and_others, annotation_name, short
from dynamic_atss.errors import UserError

NUMBERS = (int, float)  # compare them with type(), because isinstance takes bool for int


def read_boxes(path: Path, entries: list[dict[str, Any]]) -> np.ndarray:
    """Reads the boxes (A, 4) float64 as in the file. Raises UserError for a malformed box."""
    given = [entry.get("bbox") for entry in entries]
    wrong = [i for i, box in enumerate(given) if not is_box(box)]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{path}: {annotation_name(entries[first], first)}: bbox {short(given[first])} is "
            f"not four numbers (x, y, width, height): correct it{and_others(wrong)}"
        )
    boxes = np.empty((len(entries), 4), dtype=np.float64)
    for number, box in enumerate(given):
        try:
            boxes[number] = box
        except OverflowError:  # an integer beyond float64; JSON's 1e999 becomes inf as well
            boxes[number] = math.inf
    return boxes


def is_box(box: object) -> bool:
    """Returns True for a list of four numbers.

    numpy would also accept bool, and None as NaN.
    """
    return isinstance(box, list) and len(box) == 4 and all(type(v) in NUMBERS for v in box)


def read_areas(entries: list[dict[str, Any]], xywh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads the areas (A,) float64 of the objects' outlines.

    Takes w * h if the file has no positive and finite area. Returns (A,) bool, too: True for the
    areas that were taken from w * h.
    """
    areas = np.array([area_of(e.get("area")) for e in entries], dtype=np.float64)
    without = np.isnan(areas)
    with np.errstate(all="ignore"):  # boxes may have infinite extent
        return np.where(without, xywh[:, 2:].prod(1), areas), without


def area_of(value: Any) -> float:
    """Returns an area as float. Returns NaN if it is not a positive and finite number."""
    try:
        number = float(value) if type(value) in NUMBERS else math.nan
    except OverflowError:
        return math.nan
    return number if 0 < number < math.inf else math.nan


def odd_areas_of(entries: list[dict[str, Any]], wrong: np.ndarray) -> tuple[int, str]:
    """Counts the wrong areas, marked in `wrong` (A,) bool, and describes the first of them."""
    if not wrong.any():
        return 0, ""
    number = int(np.argmax(wrong))
    entry = entries[number]
    return int(wrong.sum()), f"{annotation_name(entry, number)}: {short(entry['area'])}"


def warn_of_areas(entries: list[dict[str, Any]], count: int, example: str) -> list[str]:
    """Returns a list with a warning of wrong areas for the log. It is empty if there are none."""
    if not count:
        return []
    return [
        f"{count} of {len(entries)} areas are not positive numbers ({example}): width times "
        "height of their boxes is taken. It decides whether scores count an object as small, "
        "medium or large. Correct the areas, or leave them out"
    ]
