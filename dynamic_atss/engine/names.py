"""Checks that losses and metrics have the same names in every step and on every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError

NEEDED = (
    "losses and metrics must have the same names, in the same order and with as many numbers, in "
    "every step and on every process: give 0, or a sum and a count of 0, where there is nothing"
)


class Names:
    """Holds the names of numbers, each with the count of its numbers.

    Processes add their numbers by position, so different names would be mixed up, and different
    counts would block. All processes compare their names in the first step. In later steps each
    process compares with its names of the first step.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] | None = None

    def check(self, found: Mapping[str, int]) -> None:
        """Compares names with those of the first step. Only the first call is a collective.

        Raises:
            UserError: names differ. The first call raises it on all processes.
        """
        if self._known is None:
            everywhere = distributed.gather(list(found.items()))
            for number, other in enumerate(everywhere):
                if other != everywhere[0]:
                    text = _difference(everywhere[0], other)
                    raise UserError(f"process {number} differs from process 0: {text}; {NEEDED}")
            self._known = dict(found)
        elif list(found.items()) != list(self._known.items()):
            text = _difference(list(self._known.items()), list(found.items()))
            raise UserError(f"this step differs from the first: {text}; {NEEDED}")


def _difference(one: Sequence[tuple[str, int]], other: Sequence[tuple[str, int]]) -> str:
    before, now = dict(one), dict(other)
    missing = [f"without {name!r}" for name in before if name not in now]
    added = [f"with {name!r}" for name in now if name not in before]
    counts = [
        f"{name!r} has {now[name]} numbers, not {before[name]}"
        for name in before.keys() & now.keys()
        if now[name] != before[name]
    ]
    order = f"the order is {', '.join(now)}, not {', '.join(before)}"
    return ", ".join(missing + added + sorted(counts)) or order
