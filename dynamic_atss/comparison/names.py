"""Names of what is compared that are short, and all different."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 24  # characters of a rule in a plot


def numbered(labels: Sequence[str]) -> list[str]:
    """With " #2", " #3" behind those that are there already."""
    found: list[str] = []
    for label in labels:
        same = sum(other.partition(" #")[0] == label for other in found)
        found.append(f"{label} #{same + 1}" if same else label)
    return found


def short(labels: Sequence[str]) -> list[str]:
    """For a plot: of a long label the begin and the end; without what matplotlib would take for a
    formula."""
    half = (_LONGEST - 1) // 2
    shown = [x if len(x) <= _LONGEST else f"{x[:half]}…{x[-half:]}" for x in labels]
    return numbered([label.replace("$", r"\$") for label in shown])
