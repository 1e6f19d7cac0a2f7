"""Explains each pair of a box and a prior: it won, or it lost for a stated reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.inspection.reasons import Reasons, failed, lost
from dynamic_atss.inspection.recorder import Answer, Event
from dynamic_atss.inspection.single_box import positive_alone
from dynamic_atss.types import IGNORE

WON, TAKEN, LOST, IGNORED = range(4)
_OPEN = -1  # no reason yet: no step has refused the pair
_TAKEN = "taken by another box"
_REFUSED_ALONE = "not positive, even if the image had only this box"


@dataclass(frozen=True)
class Outcomes:
    """Holds the outcomes of M pairs, sorted by box, then by prior.

    Attributes:
        box, prior: (M,) indices.
        status: (M,) WON, TAKEN, LOST or IGNORED. TAKEN: the box would get the prior if no other
            box wanted it.
        reason: (M,) numbers of texts in `Reasons`.
        other: (M,) the box that has or had the prior instead; -1: none.
        score: (M,) the score of the last step; NaN: none.
        values: by name, (M,) numbers that the rule noted; NaN: unknown.
    """

    box: NDArray[Any]
    prior: NDArray[Any]
    status: NDArray[np.uint8]
    reason: NDArray[np.int64]
    other: NDArray[np.int64]
    score: NDArray[np.float64]
    values: dict[str, NDArray[np.float32]]


def outcomes(answer: Answer, reasons: Reasons) -> Outcomes:
    """Explains all pairs that the rule looked at, and all positives. Adds texts to `reasons`."""
    return _OutcomeBuilder(answer, reasons).closed()


class _OutcomeBuilder:
    """Collects what each step of the rule reveals about the pairs."""

    def __init__(self, answer: Answer, reasons: Reasons) -> None:
        self.answer, self.reasons = answer, reasons
        self.priors = len(answer.priors)
        self.label = answer.found.gt_index.detach().cpu().flatten().numpy()
        self.events = [_only_kept(event) if event.by_wrapper else event for event in answer.events]
        positive = np.flatnonzero(self.label >= 0)
        keys = [self._keys(event.box, event.prior) for event in self.events]
        self.keys = np.unique(np.concatenate([*keys, self._keys(self.label[positive], positive)]))
        self.reason, self.other, self.why = (np.full(len(self.keys), _OPEN) for _ in range(3))
        self.seen, self.in_doubt = (np.zeros(len(self.keys), bool) for _ in range(2))
        self.last = [event for event in self.events if not event.by_wrapper][-1:]
        self.score = np.full(len(self.keys), np.nan)
        self.values: dict[str, NDArray[np.float32]] = {}
        for event, event_keys in zip(self.events, keys, strict=True):
            self._read(event, np.searchsorted(self.keys, event_keys))

    def _keys(self, box: NDArray[Any], prior: NDArray[Any]) -> NDArray[np.int64]:
        return box.astype(np.int64) * self.priors + prior

    def _read(self, event: Event, at: NDArray[Any]) -> None:
        """Applies a step to the pairs at the places `at`."""
        if not event.by_wrapper:
            self._leave_out(at)
        self.seen[at] = True
        self._copy_values(event, at)
        still = self.reason[at] == _OPEN
        codes, texts = failed(event)
        self.why[at[codes > 0]] = self.reasons.numbers(codes[codes > 0], texts)
        out = still & ~event.kept
        if event.from_notes:  # only the conditions explain why a pair is not positive
            out &= codes > 0
        elif event.winner is not None:
            beaten = still & event.kept & (event.winner != event.box)
            out |= beaten & (codes > 0)  # the rule chose for priors; the box did not want this one
            self._beat(event, beaten & (codes == 0), at)
        codes, texts = lost(event)
        self.reason[at[out]] = self.reasons.numbers(codes[out], texts)

    def _beat(self, event: Event, beaten: NDArray[np.bool_], at: NDArray[Any]) -> None:
        """Marks pairs whose prior another box takes. A later step might still refuse them."""
        assert event.winner is not None
        self.other[at[beaten]] = event.winner[beaten]
        self.reason[at[beaten]] = self.reasons.number(_TAKEN)
        self.in_doubt[at[beaten]] = not event.by_wrapper and event is not self.last[0]

    def _leave_out(self, at: NDArray[Any]) -> None:
        """Marks the open pairs of earlier steps that are not among the pairs `at`."""
        gone = self.seen & (self.reason == _OPEN)
        gone[at] = False
        self.reason[gone] = self.reasons.number("left out by the rule between two steps")

    def _copy_values(self, event: Event, at: NDArray[Any]) -> None:
        self.score[at] = event.score
        for name, value in event.values.items():
            known = self.values.setdefault(name, np.full(len(self.keys), np.nan, np.float32))
            known[at] = value

    def closed(self) -> Outcomes:
        """Gives the outcomes of all pairs, consistent with the rule's answer."""
        box, prior = self.keys // self.priors, self.keys % self.priors
        label = self.label[prior]
        status = np.full(len(self.keys), LOST, np.uint8)
        has_it = label == box
        self._close_open(~has_it & (self.reason == _OPEN), label)
        taken = ~has_it & (self.other >= 0) & (label == self.other)
        taken &= ~self._refused_alone(taken & self.in_doubt)
        status[taken] = TAKEN
        self._mark(~has_it & (self.other >= 0) & ~taken, "taken by a box that did not keep it")
        self._ignore(~has_it & (label == IGNORE), status)
        self._win(has_it, prior, status)
        return Outcomes(box, prior, status, self.reason, self.other, self.score, self.values)

    def _close_open(self, pairs: NDArray[np.bool_], label: NDArray[Any]) -> None:
        """Gives a reason to pairs that no step refused and that are still not positive."""
        self.other[pairs] = np.maximum(label[pairs], -1)
        self.in_doubt |= pairs
        self._mark(pairs & (label >= 0), _TAKEN)
        self._mark(pairs & (label < 0), "the rule does not tell why")

    def _refused_alone(self, pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Finds the pairs that the rule also refuses when the image has no other boxes."""
        found, (place,) = pairs.copy(), pairs.nonzero()
        found[place] = ~positive_alone(self.answer, *np.divmod(self.keys[place], self.priors))
        self._mark(found, _REFUSED_ALONE)
        self.other[found] = -1
        return found

    def _mark(self, pairs: NDArray[np.bool_], text: str) -> None:
        if pairs.any():
            self.reason[pairs] = self.reasons.number(text)

    def _ignore(self, pairs: NDArray[np.bool_], status: NDArray[np.uint8]) -> None:
        """Marks pairs whose prior is ignored. Adds the noted reason where there is one."""
        status[pairs] = IGNORED
        self._mark(pairs, "ignored")
        self._why_not(pairs & (self.why >= 0), "ignored ({})")

    def _why_not(self, pairs: NDArray[np.bool_], text: str) -> None:
        """Puts the conditions that failed for the pairs into the text."""
        why = self.why[pairs]
        texts = {int(n): text.format(self.reasons.texts[n]) for n in np.unique(why)}
        self.reason[pairs] = self.reasons.numbers(why, texts)

    def _win(self, pairs: NDArray[np.bool_], prior: NDArray[Any], status: NDArray[Any]) -> None:
        """Marks pairs whose prior learns the box. A positive of weight 0 learns nothing."""
        status[pairs] = WON
        self.other[pairs] = -1
        self._mark(pairs, "won")
        self._why_not(pairs & (self.why >= 0), "won, although {}")
        for inner in self.answer.inner[:1]:
            given = inner.found.gt_index.cpu().flatten().numpy()[prior] != self.label[prior]
            name = type(self.answer.rule).__name__
            self._mark(pairs & given, f"won: given by {name}")
        positive = self.answer.found.positive.cpu().flatten().numpy()[prior]
        status[pairs & ~positive] = LOST
        self._mark(pairs & ~positive, "has the prior with weight 0")


def _only_kept(event: Event) -> Event:
    """Drops the pairs that a wrapper does not use. It looks at many boxes that need no prior."""
    kept = event.kept
    return Event(
        box=event.box[kept],
        prior=event.prior[kept],
        score=event.score[kept],
        kept=kept[kept],
        winner=None if event.winner is None else event.winner[kept],
        limit=event.limit,
        values={name: value[kept] for name, value in event.values.items()},
        conditions={name: value[kept] for name, value in event.conditions.items()},
        by_wrapper=True,
    )
