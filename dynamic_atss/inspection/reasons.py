"""Describes in words why a pair of a box and a prior is not a positive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.inspection.recorder import CAP, THRESHOLD, Event
from dynamic_atss.quoting import printable

# Texts for conditions that fail. The text for any other condition is "not <name>".
FAILED = {
    THRESHOLD: "below the threshold",
    CAP: "won, but the box keeps only its best",
    "inside": "centre outside the box",
    "fits_level": "box of a size for another level",
    "above_0": "score 0: on the border, or a box of a size for another level",
    "within_sum_of_IoUs": "more than the box's IoUs add up to",
    "in_low_component": "in the mixture's component of high losses",
}
NOT_SELECTED = "not selected"
_MOST_CONDITIONS = 16


class Reasons:
    """Numbers texts. Stores each text once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def numbers(self, codes: NDArray[Any], texts: dict[int, str]) -> NDArray[np.int64]:
        """Gives the (M,) numbers of the texts that belong to the (M,) codes."""
        found, place = np.unique(codes, return_inverse=True)
        return np.array([self.number(texts[int(c)]) for c in found], np.int64)[place.reshape(-1)]


def failed(event: Event) -> tuple[NDArray[Any], dict[int, str]]:
    """Gives (M,) codes of the conditions that fail, and the text of each code. 0: none fails."""
    names = list(event.conditions)[:_MOST_CONDITIONS]
    codes = np.zeros(len(event.box), np.int64)
    for bit, name in enumerate(names):
        codes |= (~event.conditions[name]).astype(np.int64) << bit
    texts = {int(code): _text(int(code), names) for code in np.unique(codes)}
    return codes, texts


def _text(code: int, names: list[str]) -> str:
    missing = [name for bit, name in enumerate(names) if code >> bit & 1]
    return "; ".join(FAILED.get(n) or f"not {printable(n).replace('_', ' ')}" for n in missing)


def lost(event: Event) -> tuple[NDArray[Any], dict[int, str]]:
    """Does the same as `failed` for pairs that are not kept. Code 0 has a text, too."""
    codes, texts = failed(event)
    first = f"not among the {event.limit} best" if event.limit else ""
    return codes, {c: "; ".join(filter(None, (first, t))) or NOT_SELECTED for c, t in texts.items()}
