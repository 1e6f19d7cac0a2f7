"""Makes short and distinct names for the compared rules."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 24  # characters of a rule in a plot


def numbered(labels: Sequence[str]) -> list[str]:
    """Appends " #2", " #3", ... to repeated labels."""
    found: list[str] = []
    for label in labels:
        same = sum(other.partition(" #")[0] == label for other in found)
        found.append(f"{label} #{same + 1}" if same else label)
    return found


def short(labels: Sequence[str]) -> list[str]:
    """Shortens long labels for a plot to their two ends.

    Escapes matplotlib's sign for formulas.
    """
    half = (_LONGEST - 1) // 2
    shown = [x if len(x) <= _LONGEST else f"{x[:half]}…{x[-half:]}" for x in labels]
    return numbered([label.replace("$", r"\$") for label in shown])
