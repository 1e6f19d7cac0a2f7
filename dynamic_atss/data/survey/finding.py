"""What a survey tells: one line for each kind of thing that it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# From the worst to the least. stop: a training cannot read it · fix: it is read, but what is learnt
# or scored is wrong · warning: it may be wrong · note: good to know
LEVELS = ("stop", "fix", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """level, one of LEVELS · code, the kind, for programs · where, the file or files · count, how
    many things it is about · text, what was found, with count and example · advice, what to do ·
    items, the files that it is about where they are few enough to be named
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
        """The file, what was found, and what to do: a sentence each."""
        return f"{self.where}: {self.text}. {sentence(self.advice)}"


def sentence(text: str) -> str:
    """With a capital and a full stop. A first word that is a key, a file or an option stays."""
    first = text.partition(" ")[0].rstrip(",:")
    begin = text[:1].upper() if first.isalpha() else text[:1]
    return f"{begin}{text[1:]}."


def in_order(found: Sequence[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def share(count: int, total: int, many: str) -> str:
    """ "3 of 40 images": `many` is the noun in its plural."""
    return f"{count:,} of {total:,} {many}"


def several(count: int, one: str, many: str = "") -> str:
    """The count with its noun: "1 image", "2 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
