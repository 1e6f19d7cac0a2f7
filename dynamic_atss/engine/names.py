"""Names of losses and metrics: the same in every step and on every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError

NEEDED = (
    "losses and metrics must have the same names, in the same order and with as many numbers, in "
    "every step and on every process: give 0, or a sum and a count of 0, where there is nothing"
)


class Names:
    """Names of numbers, each with how many there are of it.

    Processes add their numbers up by place, so that others would be mixed up or waited for in vain.
    They are compared once, in the first step: from then on each process compares with its own.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] | None = None

    def check(self, found: Mapping[str, int]) -> None:
        """One collective at the first call, none later.

        Raises:
            UserError: names that differ, on the process that has them, or at the first call on all.
        """
        if self._known is None:
            everywhere = distributed.gather(list(found.items()))
            for number, other in enumerate(everywhere):
                if other != everywhere[0]:
                    told = _difference(everywhere[0], other)
                    raise UserError(f"process {number} differs from process 0: {told}; {NEEDED}")
            self._known = dict(found)
        elif list(found.items()) != list(self._known.items()):
            told = _difference(list(self._known.items()), list(found.items()))
            raise UserError(f"this step differs from the first: {told}; {NEEDED}")


def _difference(one: Sequence[tuple[str, int]], other: Sequence[tuple[str, int]]) -> str:
    before, now = dict(one), dict(other)
    lacking = [f"without {name!r}" for name in before if name not in now]
    more = [f"with {name!r}" for name in now if name not in before]
    counts = [
        f"{name!r} has {now[name]} numbers, not {before[name]}"
        for name in before.keys() & now.keys()
        if now[name] != before[name]
    ]
    order = f"the order is {', '.join(now)}, not {', '.join(before)}"
    return ", ".join(lacking + more + sorted(counts)) or order
