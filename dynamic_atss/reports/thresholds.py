"""Counts found and missed objects, false detections and F1 by threshold of the score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.arange(1001) / 1000  # detections with at least this score count
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """Holds the numbers at each of `THRESHOLDS`.

    Attributes:
        found: (1001,) number of found objects.
        false: (1001,) number of false detections.
        objects: number of all objects.
    """

    found: Ints
    false: Ints
    objects: int

    @property
    def precision(self) -> Floats:
        """Returns (1001,) the precision. It is NaN without detections."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> Floats:
        """Returns (1001,) the recall. It is NaN without objects."""
        return _share(self.found, np.full_like(self.found, self.objects))

    @property
    def f1(self) -> Floats:
        """Returns (1001,) 2 x found / (detections + objects).

        It is NaN with neither detections nor objects.
        """
        return _share(2 * self.found, self.found + self.false + self.objects)

    @property
    def best(self) -> float | None:
        """Returns the threshold with the highest F1, the middle one of equal ones.

        Returns None if no object is found.
        """
        if not self.found.any():
            return None
        best = np.flatnonzero(self.f1 == np.nanmax(self.f1))
        return float(THRESHOLDS[best[len(best) // 2]])

    def at(self, threshold: float) -> dict[str, float | int | None]:
        """Returns the numbers at one of `THRESHOLDS`. Undefined numbers are None."""
        i = int(np.searchsorted(THRESHOLDS, threshold))
        shares = {"precision": self.precision[i], "recall": self.recall[i], "f1": self.f1[i]}
        return {
            "threshold": threshold,
            "found": int(self.found[i]),
            "missed": self.objects - int(self.found[i]),
            "false": int(self.false[i]),
            **{name: None if np.isnan(v) else float(v) for name, v in shares.items()},
        }


def sweep(right_scores: Floats, false_scores: Floats, objects: int) -> Sweep:
    """Counts found objects and false detections at all thresholds.

    Args:
        right_scores: scores of the detections that find an object.
        false_scores: scores of the other detections.
        objects: number of objects.
    """
    return Sweep(_at_least(right_scores), _at_least(false_scores), objects)


def _at_least(scores: Floats) -> Ints:
    """Returns (1001,) the number of scores that reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")


def _share(part: Ints, total: Ints) -> Floats:
    return np.divide(part, total, out=np.full(len(part), np.nan), where=total > 0)
