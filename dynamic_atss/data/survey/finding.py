"""Defines the findings of a survey: one for each kind of mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# From worst to least. stop: a training cannot read it · fix: a training or test gives wrong results
# · warning: it may be wrong · note: good to know
LEVELS = ("stop", "fix", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A mistake in a data set, with advice.

    level: one of LEVELS · code: its kind, for programs · where: the file or files · count: number
    of boxes, images, ... · text: description with count and example · advice: what to do · items:
    the affected files, if they are listed
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
        """The file, the description and the advice."""
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
    """Formats "3 of 40 images". many: the noun in plural."""
    return f"{count:,} of {total:,} {many}"


def several(count: int, singular: str, plural: str = "") -> str:
    """Formats a count with its noun: "1 image", "2 images"."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
