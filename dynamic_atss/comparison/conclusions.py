"""What can be told of a comparison, in words."""

from __future__ import annotations

from collections.abc import Iterator

from dynamic_atss.comparison.result import Column, Comparison
from dynamic_atss.comparison.statistics import CONFIDENCE, FEW
from dynamic_atss.comparison.tables import interval, signed


def conclusions(found: Comparison) -> list[str]:
    """What can be told of AP, a line for each rule but the reference, and how far that goes."""
    lines = [line for column in found.columns if (line := _told(found, column))]
    counts = [len(column.values("AP")) for column in found.columns]
    return [*lines, *_limits(len(found.compared), min(counts, default=0))]


def _told(found: Comparison, column: Column) -> str:
    """ "" of the reference."""
    if column.label == found.reference:
        return ""
    if not found.comparable(column):
        return (
            f"{column.label}: is tested on another data set than {found.reference}: their scores "
            "cannot be compared"
        )
    difference = found.difference(column, "AP")
    if difference is None:
        return f"{column.label}: has no AP with a seed that {found.reference} has, too"
    if difference.n == 1:
        return (
            f"{column.label}: {signed(difference.mean)} AP to {found.reference} with one seed: "
            "whether that is more than luck cannot be told"
        )
    numbers = f"{found.reference} ({interval(difference)}, {difference.n} seeds)"
    if difference.told:
        return f"{column.label}: AP is {difference.verdict} than that of {numbers}"
    return f"{column.label}: AP cannot be told apart from that of {numbers}"


def _limits(compared: int, seeds: int) -> Iterator[str]:
    if not compared:
        return
    if seeds < 2:
        yield (
            "One seed tells nothing of the spread: a difference may be luck, of any size. Give "
            "three seeds or more"
        )
    elif seeds <= FEW:
        yield (
            f"{seeds} seeds give wide intervals: a difference that is there may well not be told. "
            "More seeds narrow them"
        )
    if compared > 1 and seeds > 1:
        chance = 1 - CONFIDENCE**compared
        yield (
            f"Each interval is right in {100 * CONFIDENCE:.0f} % of all cases by itself. Of "
            f"{compared} comparisons without any true difference, one or more would still be told "
            f"as one in {100 * chance:.0f} % of all cases"
        )
