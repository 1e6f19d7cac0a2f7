"""Defines the findings of a survey. There is one for each kind of mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# From worst to least:
# stop: a training cannot read the data set.
# fix: a training or a test gives wrong results.
# warning: something may be wrong.
# note: something is good to know.
LEVELS = ("stop", "fix", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Describes a mistake in a data set, with advice.

    Attributes:
        level: one of LEVELS.
        code: the kind of the mistake, for programs.
        where: the file or files.
        count: number of boxes, images, ...
        text: a description with count and example.
        advice: how to correct it.
        items: the affected files, if they are listed.
    """

    level: str
    code: str
    where: str
    count: int
    text: str
    advice: str
    items: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """Returns the file, the description and the advice in one line."""
        return f"{self.where}: {self.text}. {sentence(self.advice)}"


def sentence(text: str) -> str:
    """Adds a capital letter and a full stop. A key, file or option at the start stays unchanged."""
    first = text.partition(" ")[0].rstrip(",:")
    begin = text[:1].upper() if first.isalpha() else text[:1]
    return f"{begin}{text[1:]}."


def in_order(found: Sequence[Finding]) -> list[Finding]:
    """Sorts findings, worst first."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def share(count: int, total: int, many: str) -> str:
    """Formats a share as "3 of 40 images". `many` is the noun in plural."""
    return f"{count:,} of {total:,} {many}"


def several(count: int, singular: str, plural: str = "") -> str:
    """Formats a count with its noun, as "1 image" or "2 images"."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
