"""What a threshold of the score gives: objects found and missed, false detections, F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.arange(1001) / 1000  # what one types; detections of at least this score count
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """Objects found, of `objects`, and false detections at each of `THRESHOLDS`: (1001,)."""

    found: Ints
    false: Ints
    objects: int

    @property
    def precision(self) -> Floats:
        """NaN where there is no detection."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> Floats:
        """NaN without objects."""
        return _share(self.found, np.full_like(self.found, self.objects))

    @property
    def f1(self) -> Floats:
        """2 x found / (detections + objects), NaN without either."""
        return _share(2 * self.found, self.found + self.false + self.objects)

    @property
    def best(self) -> float | None:
        """The threshold of the highest F1, the middle one of several; None if nothing is found."""
        if not self.found.any():
            return None
        best = np.flatnonzero(self.f1 == np.nanmax(self.f1))
        return float(THRESHOLDS[best[len(best) // 2]])

    def at(self, threshold: float) -> dict[str, float | int | None]:
        """The numbers at one of `THRESHOLDS`; None where undefined."""
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
    """right_scores: of the detections that find an object · false_scores: of the others ·
    objects: to be found"""
    return Sweep(_at_least(right_scores), _at_least(false_scores), objects)


def _at_least(scores: Floats) -> Ints:
    """(1001,) how many scores reach each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left")


def _share(part: Ints, whole: Ints) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
