"""Label files of YOLO's layout -> boxes as fractions of the image's sides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dynamic_atss.data.values import as_integer, as_number
from dynamic_atss.errors import UserError
from dynamic_atss.reading import LABELS_BYTES, read_text

BOX = 5  # numbers in the row of a box: class, centre x and y, width, height
_TOO_FAR = 2.0  # no fraction, but a pixel


@dataclass
class Labels:
    """What label files say: rows, for each file (n, 5) class, x, y, w, h as fractions, x and y of
    the upper left corner · faults, in words · numbers of the classes, of those that there are not,
    too · counts and examples of what was read by its meaning
    """

    classes: int
    keypoints: int = 0
    rows: list[np.ndarray] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def read(self, file: Path | None) -> None:
        """Appends the rows of one file; of an image without one there are none."""
        found: dict[tuple[float, ...], None] = {}
        for number, line in enumerate(_lines(file) if file else [], 1):
            if line.strip():
                self._add(found, line, f"{file}: row {number}")
        self.rows.append(np.array(list(found), np.float64).reshape(-1, BOX))

    def check(self) -> None:
        """Raises UserError for the first fault; it tells how many rows have one."""
        if self.faults:
            more = f" ({len(self.faults) - 1} more rows)" if len(self.faults) > 1 else ""
            raise UserError(f"{self.faults[0]}{self._gaps()}{more}")

    def notes(self) -> list[str]:
        """A line for each kind of what was read by its meaning."""
        return [
            f"{count} {what} (such as {self.examples[what]})" for what, count in self.counts.items()
        ]

    def _gaps(self) -> str:
        """What all the numbers of classes are, where one of them is too large."""
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
            self._count("rows that are there twice in a file: read once", where)
        found[row] = None

    def _row(self, words: list[str], where: str) -> tuple[float, ...]:
        """class, x, y, w, h. Raises ValueError for what is no row."""
        label = as_integer(words[0])
        if label is not None:
            self.numbers.add(label)
        if label is None or not 0 <= label < self.classes:
            raise ValueError(
                f"class {words[0]!r:.40} is none of 0 to {self.classes - 1}: correct it"
            )
        numbers = [as_number(word) for word in words[1:]]
        if None in numbers:
            word = words[1 + numbers.index(None)]
            raise ValueError(f"{word!r:.40} is no number: correct it")
        box = self._box(np.array(numbers, np.float64), where)
        corners = np.array([*box[:2], *(box[:2] + box[2:])])
        if (np.abs(corners) > _TOO_FAR).any():
            raise ValueError(
                f"{' '.join(words[1:5]):.60} are no fractions of the image's sides (pixels?): "
                "divide x and width by the image's width, y and height by its height"
            )
        return (float(label), *box.tolist())

    def _box(self, numbers: np.ndarray, where: str) -> np.ndarray:
        """x, y, w, h of a row's numbers: a box, a box with keypoints, or a polygon."""
        if self.keypoints and len(numbers) == BOX - 1 + self.keypoints:
            self._count("boxes with keypoints, which are not read", where)
            numbers = numbers[: BOX - 1]
        if len(numbers) == BOX - 1:
            return np.concatenate([numbers[:2] - numbers[2:] / 2, numbers[2:]])
        if len(numbers) == BOX:
            raise ValueError(
                f"6 numbers: after the box there is {numbers[-1]:g}, which looks like the "
                "confidence of a prediction, or the angle of a rotated box: write class, centre "
                "x, centre y, width, height"
            )
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(
                f"{len(numbers) + 1} numbers: write class, centre x, centre y, width, height, or "
                "class and three or more points"
            )
        self._count("polygons made boxes", where)
        points = numbers.reshape(-1, 2)
        low = points.min(0)
        return np.concatenate([low, points.max(0) - low])

    def _count(self, what: str, where: str) -> None:
        self.counts[what] += 1
        self.examples.setdefault(what, where)


def _lines(file: Path) -> list[str]:
    try:
        return read_text(file, LABELS_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{file}: cannot be read ({why}): give a text in UTF-8") from None
