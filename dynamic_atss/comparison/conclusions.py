"""States the conclusions of a comparison in words."""

from __future__ import annotations

from collections.abc import Iterator

from dynamic_atss.comparison.result import Column, Comparison
from dynamic_atss.comparison.statistics import CONFIDENCE, FEW
from dynamic_atss.comparison.tables import interval, signed


def conclusions(found: Comparison) -> list[str]:
    """Gives a line on the AP of each rule except the reference, then warnings."""
    lines = [line for column in found.columns if (line := _conclusion(found, column))]
    counts = [len(column.values("AP")) for column in found.columns]
    return [*lines, *_limits(len(found.compared), min(counts, default=0))]


def _conclusion(found: Comparison, column: Column) -> str:
    """Gives the line of a rule; "" for the reference."""
    if column.label == found.reference:
        return ""
    if not found.comparable(column):
        return (
            f"{column.label}: scores cannot be compared with those of {found.reference}, because "
            "the test sets differ"
        )
    difference = found.difference(column, "AP")
    if difference is None:
        return f"{column.label}: has no seed in common with {found.reference}"
    if difference.n == 1:
        return (
            f"{column.label}: {signed(difference.mean)} AP compared with {found.reference}, with "
            "one seed; this may be chance"
        )
    numbers = f"{found.reference} ({interval(difference)}, {difference.n} seeds)"
    if difference.significant:
        return f"{column.label}: AP is {difference.verdict} than that of {numbers}"
    return f"{column.label}: AP does not differ significantly from that of {numbers}"


def _limits(compared: int, seeds: int) -> Iterator[str]:
    if not compared:
        return
    if seeds < 2:
        yield (
            "With one seed the spread is unknown, and any difference may be chance. Give three "
            "seeds or more"
        )
    elif seeds <= FEW:
        yield (
            f"{seeds} seeds give wide intervals, which may hide a true difference. Give more "
            "seeds to narrow them"
        )
    if compared > 1 and seeds > 1:
        chance = 1 - CONFIDENCE**compared
        yield (
            f"Each interval alone is right in {100 * CONFIDENCE:.0f} % of all cases. With "
            f"{compared} comparisons and no true difference, at least one appears significant in "
            f"up to {100 * chance:.0f} % of all cases"
        )
