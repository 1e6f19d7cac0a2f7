"""What a survey tells: one line for each kind of thing that it finds."""

from __future__ import annotations

from dataclasses import dataclass

# From the worst to the least. stop: a training cannot read it · fix: it is read, but what is learnt
# or scored is wrong · warning: it may be wrong · note: good to know
LEVELS = ("stop", "fix", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """level, one of LEVELS · code, the kind, for programs · where, the file or files · count, how
    many things it is about · text, what was found, with count and example · advice, what to do
    """

    level: str
    code: str
    where: str
    count: int
    text: str
    advice: str

    @property
    def line(self) -> str:
        return f"{self.where}: {self.text}: {self.advice}"


def several(count: int, one: str, many: str = "") -> str:
    """The count with its noun: "1 image", "2 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
