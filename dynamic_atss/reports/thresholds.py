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
    """Numbers of found objects and false detections at each of `THRESHOLDS`, (1001,) each.

    objects: number of all objects
    """

    found: Ints
    false: Ints
    objects: int

    @property
    def precision(self) -> Floats:
        """(1001,), NaN: no detections."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> Floats:
        """(1001,), NaN: no objects."""
        return _share(self.found, np.full_like(self.found, self.objects))

    @property
    def f1(self) -> Floats:
        """(1001,) 2 x found / (detections + objects), NaN: neither detections nor objects."""
        return _share(2 * self.found, self.found + self.false + self.objects)

    @property
    def best(self) -> float | None:
        """The threshold with the highest F1, the middle one of equal ones. None: nothing found."""
        if not self.found.any():
            return None
        best = np.flatnonzero(self.f1 == np.nanmax(self.f1))
        return float(THRESHOLDS[best[len(best) // 2]])

    def at(self, threshold: float) -> dict[str, float | int | None]:
        """Gives the numbers at one of `THRESHOLDS`. None: undefined."""
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
    """Counts at all thresholds.

    Args:
        right_scores: scores of the detections that find an object.
        false_scores: scores of the other detections.
        objects: number of objects.
    """
    return Sweep(_at_least(right_scores), _at_least(false_scores), objects)


def _at_least(scores: Floats) -> Ints:
    """Counts the scores that reach each threshold, (1001,)."""
    return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")


def _share(part: Ints, total: Ints) -> Floats:
    return np.divide(part, total, out=np.full(len(part), np.nan), where=total > 0)
