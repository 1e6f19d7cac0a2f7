"""What became of each pair of a box and a prior: won, or lost and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.inspection.alone import had_alone
from dynamic_atss.inspection.reasons import Reasons, failed, lost
from dynamic_atss.inspection.recorder import Answer, Event
from dynamic_atss.types import IGNORE

WON, TAKEN, LOST, IGNORED = range(4)
_OPEN = -1  # no reason yet: the pair is still in
_TAKEN = "taken by another box"
_REFUSED_ALONE = "refused without the other boxes, too"


@dataclass(frozen=True)
class Fates:
    """M pairs, by box, then by prior.

    box, prior (M,) · status (M,) WON, TAKEN, LOST or IGNORED; TAKEN: the box would have the prior
    if no other box wanted it · reason (M,) numbers of texts · other (M,): the box that has or had
    the prior in this one's place, -1: none · score (M,), of the last step, NaN: none · values (M,)
    by name, NaN: unknown
    """

    box: NDArray[Any]
    prior: NDArray[Any]
    status: NDArray[np.uint8]
    reason: NDArray[np.int64]
    other: NDArray[np.int64]
    score: NDArray[np.float64]
    values: dict[str, NDArray[np.float32]]


def fates(answer: Answer, reasons: Reasons) -> Fates:
    """Of all pairs that the rule looked at and of all positives. `reasons` gets their texts."""
    return _Ledger(answer, reasons).closed()


class _Ledger:
    """The pairs, each with what is known of it after the steps so far."""

    def __init__(self, answer: Answer, reasons: Reasons) -> None:
        self.answer, self.reasons = answer, reasons
        self.priors = len(answer.priors)
        self.label = answer.found.gt_index.detach().cpu().flatten().numpy()
        self.events = [_kept_alone(event) if event.around else event for event in answer.events]
        positive = np.flatnonzero(self.label >= 0)
        keys = [self._keys(event.box, event.prior) for event in self.events]
        self.keys = np.unique(np.concatenate([*keys, self._keys(self.label[positive], positive)]))
        self.reason, self.other, self.why = (np.full(len(self.keys), _OPEN) for _ in range(3))
        self.seen, self.in_doubt = (np.zeros(len(self.keys), bool) for _ in range(2))
        self.last = [event for event in self.events if not event.around][-1:]
        self.score = np.full(len(self.keys), np.nan)
        self.values: dict[str, NDArray[np.float32]] = {}
        for event, own in zip(self.events, keys, strict=True):
            self._read(event, np.searchsorted(self.keys, own))

    def _keys(self, box: NDArray[Any], prior: NDArray[Any]) -> NDArray[np.int64]:
        return box.astype(np.int64) * self.priors + prior

    def _read(self, event: Event, at: NDArray[Any]) -> None:
        """The pairs `at` go through a step."""
        if not event.around:
            self._leave_out(at)
        self.seen[at] = True
        self._take_over(event, at)
        still = self.reason[at] == _OPEN
        codes, texts = failed(event)
        self.why[at[codes > 0]] = self.reasons.numbers(codes[codes > 0], texts)
        out = still & ~event.kept
        if event.told:  # of what is not positive, nothing more is known than the conditions
            out &= codes > 0
        elif event.winner is not None:
            beaten = still & event.kept & (event.winner != event.box)
            out |= beaten & (codes > 0)  # the rule chose by prior: the box itself did not want it
            self._beat(event, beaten & (codes == 0), at)
        codes, texts = lost(event)
        self.reason[at[out]] = self.reasons.numbers(codes[out], texts)

    def _beat(self, event: Event, beaten: NDArray[np.bool_], at: NDArray[Any]) -> None:
        """Another box takes the prior; whether a later step would have refused it is in doubt."""
        assert event.winner is not None
        self.other[at[beaten]] = event.winner[beaten]
        self.reason[at[beaten]] = self.reasons.number(_TAKEN)
        self.in_doubt[at[beaten]] = not event.around and event is not self.last[0]

    def _leave_out(self, at: NDArray[Any]) -> None:
        """Pairs of an earlier step that are not in this one."""
        gone = self.seen & (self.reason == _OPEN)
        gone[at] = False
        self.reason[gone] = self.reasons.number("left out by the rule between two steps")

    def _take_over(self, event: Event, at: NDArray[Any]) -> None:
        self.score[at] = event.score
        for name, value in event.values.items():
            known = self.values.setdefault(name, np.full(len(self.keys), np.nan, np.float32))
            known[at] = value

    def closed(self) -> Fates:
        """All pairs, by the rule's answer."""
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
        rest = self.reason, self.other, self.score, self.values
        return Fates(box, prior, status, *rest)

    def _close_open(self, pairs: NDArray[np.bool_], label: NDArray[Any]) -> None:
        """No step has refused them, and yet they are no positives."""
        self.other[pairs] = np.maximum(label[pairs], -1)
        self.in_doubt |= pairs
        self._mark(pairs & (label >= 0), _TAKEN)
        self._mark(pairs & (label < 0), "the rule does not tell why")

    def _refused_alone(self, pairs: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of the pairs that would be no positives without the other boxes, either."""
        found, (place,) = pairs.copy(), pairs.nonzero()
        found[place] = ~had_alone(self.answer, *np.divmod(self.keys[place], self.priors))
        self._mark(found, _REFUSED_ALONE)
        self.other[found] = -1
        return found

    def _mark(self, pairs: NDArray[np.bool_], text: str) -> None:
        if pairs.any():
            self.reason[pairs] = self.reasons.number(text)

    def _ignore(self, pairs: NDArray[np.bool_], status: NDArray[np.uint8]) -> None:
        """The prior is neither a positive nor background. Why, as far as it was noted."""
        status[pairs] = IGNORED
        self._mark(pairs, "ignored")
        self._why_not(pairs & (self.why >= 0), "ignored ({})")

    def _why_not(self, pairs: NDArray[np.bool_], text: str) -> None:
        """What the rule noted against the pairs, in the text."""
        why = self.why[pairs]
        texts = {int(n): text.format(self.reasons.texts[n]) for n in np.unique(why)}
        self.reason[pairs] = self.reasons.numbers(why, texts)

    def _win(self, pairs: NDArray[np.bool_], prior: NDArray[Any], status: NDArray[Any]) -> None:
        """Those whose prior learns the box; of weight 0 it learns nothing."""
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


def _kept_alone(event: Event) -> Event:
    """Of a rule around another only what it takes: it looks at many boxes that lack nothing."""
    kept = event.kept
    return Event(
        *(event.box[kept], event.prior[kept], event.score[kept], kept[kept]),
        None if event.winner is None else event.winner[kept],
        event.limit,
        {name: value[kept] for name, value in event.values.items()},
        {name: value[kept] for name, value in event.conditions.items()},
        around=True,
    )
