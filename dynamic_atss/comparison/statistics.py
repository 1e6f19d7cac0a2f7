"""Computes means, spreads, paired differences with their intervals, and correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
FEW = 3  # with this many seeds or fewer, an interval is wide

Floats = NDArray[np.float64]


class Spread(NamedTuple):
    """Holds mean and standard deviation of n numbers.

    Attributes:
        n: the number of numbers.
        mean: their mean.
        sd: the standard deviation, divided by n - 1; None for one number.
    """

    n: int
    mean: float
    sd: float | None


class Difference(NamedTuple):
    """Holds the mean of n paired differences, and the bounds of its interval.

    The bounds are None for n = 1.
    """

    n: int
    mean: float
    low: float | None
    high: float | None

    @property
    def significant(self) -> bool:
        """Returns True if the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """States the conclusion in words."""
        if self.n == 1:
            return "unknown with one seed"
        if not self.significant:
            return "not significantly different"
        return "higher" if self.mean > 0 else "lower"


def spread(values: Sequence[float]) -> Spread | None:
    """Computes mean and standard deviation; None if there are no numbers."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Spread(n, mean, None)
    squares = math.fsum((x - mean) ** 2 for x in values)
    return Spread(n, mean, math.sqrt(squares / (n - 1)))


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Averages the differences of numbers with the same seed; None if no seed is in both.

    Uses Student's t for the interval: mean -+ t(0.975, n - 1) sd / sqrt(n).
    """
    found = spread([values[seed] - reference[seed] for seed in values if seed in reference])
    if found is None:
        return None
    if found.sd is None:
        return Difference(found.n, found.mean, None, None)
    half = t_quantile(found.n - 1) * found.sd / math.sqrt(found.n)
    return Difference(found.n, found.mean, found.mean - half, found.mean + half)


def t_quantile(freedom: int, probability: float = (1 + CONFIDENCE) / 2) -> float:
    """Computes a quantile of Student's t for an integer number of degrees of freedom.

    Bisects the distribution, which is a finite sum (`t_within`), to full float precision.

    Args:
        probability: above 1/2.
    """
    low, high = 0.0, 1.0
    while (1 + t_within(high, freedom)) / 2 < probability:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        if (1 + t_within(middle, freedom)) / 2 < probability:
            low = middle
        else:
            high = middle
    return high


def t_within(t: float, freedom: int) -> float:
    """Computes the probability that Student's t lies in [-t, t].

    Formulas: Abramowitz and Stegun 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def pearson(a: Floats, b: Floats) -> float | None:
    """Computes the correlation of two columns; None if one of them does not vary."""
    if not len(a) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    x, y = a - a.mean(), b - b.mean()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(a: Floats, b: Floats) -> float | None:
    """Computes Pearson's correlation of the ranks. Equal numbers get the mean of their ranks."""
    return pearson(_ranks(a), _ranks(b))


def _ranks(values: Floats) -> Floats:
    """Gives the 0-based ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[group.reshape(-1)]
