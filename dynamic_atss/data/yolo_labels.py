"""Reads label files of YOLO's layout: boxes as fractions of the image's sides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dynamic_atss.data.values import as_integer, as_number
from dynamic_atss.errors import UserError
from dynamic_atss.reading import LABELS_BYTES, read_text

BOX = 5  # numbers in a row: class, centre x and y, width, height
_TOO_FAR = 2.0  # a larger number is a pixel, not a fraction


@dataclass
class Labels:
    """Holds the content of label files.

    Attributes:
        classes: number of classes.
        keypoints: count of numbers for keypoints after each box.
        rows: for each file (n, 5) class, x, y, w, h as fractions. x, y is the upper left corner.
        faults: descriptions of wrong rows.
        numbers: all class numbers in the files, including wrong ones.
        counts, examples: kind of interpreted rows -> number, and first place.
    """

    classes: int
    keypoints: int = 0
    rows: list[np.ndarray] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def read(self, file: Path | None) -> None:
        """Appends the rows of one file. An image without a file has no rows."""
        found: dict[tuple[float, ...], None] = {}
        for number, line in enumerate(_lines(file) if file else [], 1):
            if line.strip():
                self._add(found, line, f"{file}: row {number}")
        self.rows.append(np.array(list(found), np.float64).reshape(-1, BOX))

    def check(self) -> None:
        """Raises UserError for the first fault, with the number of wrong rows."""
        if self.faults:
            more = f" ({len(self.faults) - 1} more rows)" if len(self.faults) > 1 else ""
            raise UserError(f"{self.faults[0]}{self._class_numbers()}{more}")

    def notes(self) -> list[str]:
        """Returns a line for each kind of interpreted rows."""
        return [f"{n} {kind} (such as {self.examples[kind]})" for kind, n in self.counts.items()]

    def _class_numbers(self) -> str:
        """Lists the class numbers if one of them is too large. Returns "" otherwise."""
        found = sorted(self.numbers)
        if not found or 0 <= found[0] <= found[-1] < self.classes:
            return ""
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        return f"; the files use {len(found)} class numbers ({shown}) for {self.classes} names"

    def _add(self, found: dict[tuple[float, ...], None], line: str, where: str) -> None:
        try:
            row = self._row(line.split(), where)
        except ValueError as error:
            self.faults.append(f"{where}: {error}")
            return
        if row in found:
            self._count("rows that occur twice in a file are read once", where)
        found[row] = None

    def _row(self, words: list[str], where: str) -> tuple[float, ...]:
        """Parses a row into class, x, y, w, h. Raises ValueError for a malformed row."""
        label = as_integer(words[0])
        if label is not None:
            self.numbers.add(label)
        if label is None or not 0 <= label < self.classes:
            raise ValueError(
                f"class {words[0]!r:.40} is not one of 0 to {self.classes - 1}: correct it"
            )
        numbers = [as_number(word) for word in words[1:]]
        if None in numbers:
            word = words[1 + numbers.index(None)]
            raise ValueError(f"{word!r:.40} is not a number: correct it")
        box = self._box(np.array(numbers, np.float64), where)
        corners = np.array([*box[:2], *(box[:2] + box[2:])])
        if (np.abs(corners) > _TOO_FAR).any():
            raise ValueError(
                f"{' '.join(words[1:5]):.60} are not fractions of the image's sides: if they are "
                "pixels, divide x and width by the image's width, y and height by its height"
            )
        return (float(label), *box.tolist())

    def _box(self, numbers: np.ndarray, where: str) -> np.ndarray:
        """Converts a box, a box with keypoints, or a polygon to x, y, w, h."""
        if self.keypoints and len(numbers) == BOX - 1 + self.keypoints:
            self._count("boxes have keypoints, which are not read", where)
            numbers = numbers[: BOX - 1]
        if len(numbers) == BOX - 1:
            return np.concatenate([numbers[:2] - numbers[2:] / 2, numbers[2:]])
        if len(numbers) == BOX:
            raise ValueError(
                f"6 numbers: the last, {numbers[-1]:g}, looks like the confidence of a prediction "
                "or the angle of a rotated box: write class, centre x, centre y, width, height"
            )
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(
                f"{len(numbers) + 1} numbers: write class, centre x, centre y, width, height, or "
                "class and three or more points"
            )
        self._count("polygons are converted to boxes", where)
        points = numbers.reshape(-1, 2)
        low = points.min(0)
        return np.concatenate([low, points.max(0) - low])

    def _count(self, kind: str, where: str) -> None:
        self.counts[kind] += 1
        self.examples.setdefault(kind, where)


def _lines(file: Path) -> list[str]:
    try:
        return read_text(file, LABELS_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read ({reason}): give a text file in UTF-8") from None
