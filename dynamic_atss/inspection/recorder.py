"""What a rule does, step by step, on the host."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.errors import UserError
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors

THRESHOLD = "threshold"
UNNAMED = "score"
CAP = "within_per_box"  # a condition: of `resolve`, of pairs that have won


@dataclass(frozen=True)
class Event:
    """A step about M pairs of one image.

    box, prior, score (M,) · kept (M,) bool: chosen, or selected · winner (M,) the gt index that
    the pair's prior has after the step, or None: it gives priors to no box · limit: so many of a
    box are chosen, 0: any number · values and conditions (M,) by name, as noted · around: of a
    rule around another, which has answered · told: the whole is said in one go by a rule for one
    image
    """

    box: NDArray[Any]
    prior: NDArray[Any]
    score: NDArray[Any]
    kept: NDArray[np.bool_]
    winner: NDArray[Any] | None = None
    limit: int = 0
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    conditions: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    around: bool = False
    told: bool = False


@dataclass(frozen=True)
class Answer:
    """What one rule was asked and answered, with its steps; `inner`: answers of the rules that it
    is around, in order."""

    rule: Any
    priors: Priors
    gt: GroundTruth
    predictions: Predictions
    found: Assignment
    events: list[Event]
    inner: list[Answer]


@dataclass
class _Asked:
    rule: Any
    events: list[Event] = field(default_factory=list)
    inner: list[Answer] = field(default_factory=list)


class Record:
    """A `Recorder` of rules that are asked about one image.

    answers: of the rules that nothing is around, in order
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._asked: list[_Asked] = []
        self._notes: dict[str, Any] = {}

    def note(self, values: dict[str, Any]) -> None:
        for name, value in values.items():  # copies: the rule may go on to write into them
            self._notes[name] = value.detach().cpu().clone() if torch.is_tensor(value) else value

    def chosen(self, pairs: Pairs, score: Tensor, k: int, boxes: int, places: Tensor) -> None:
        kept = np.zeros(score.numel(), dtype=bool)
        kept[places[places >= 0].cpu().numpy()] = True
        self._add(pairs, score, torch.from_numpy(kept).view(score.shape), limit=k)

    def resolved(self, pairs: Pairs, selected: Tensor, score: Tensor, index: Tensor) -> None:
        self._add(pairs, score, selected, index=index)

    def capped(self, pairs: Pairs, kept: Tensor, score: Tensor, index: Tensor) -> None:
        if self._asked:
            name = next(iter(self._asked[-1].events[-1].values))  # the score, as it was noted
            self.note({UNNAMED: name, CAP: kept})
        self.resolved(pairs, kept, score, index)

    def begin(self, rule: Any) -> None:
        self._asked.append(_Asked(rule))
        self._notes = {}

    def end(
        self, priors: Priors, gt: GroundTruth, predictions: Predictions, found: Assignment
    ) -> None:
        asked = self._asked.pop()
        if any(not isinstance(value, str) for value in self._notes.values()):
            asked.events.append(self._said(asked, found, len(gt)))
        self._notes = {}
        answer = Answer(asked.rule, priors, gt, predictions, found, asked.events, asked.inner)
        if not self._asked:
            self.answers.append(answer)
            return
        outer = self._asked[-1]
        outer.events += answer.events
        outer.inner.append(answer)

    def _add(
        self,
        pairs: Pairs,
        score: Tensor,
        kept: Tensor,
        *,
        limit: int = 0,
        index: Tensor | None = None,
    ) -> None:
        """The event of a helper's call, with what was noted for it."""
        if not self._asked:
            return
        asked, notes, self._notes = self._asked[-1], self._notes, {}
        exists = pairs.exists.cpu().flatten().numpy()
        shape, score = pairs.flat.shape, score.detach().cpu()

        def flat(values: Tensor) -> NDArray[Any]:
            return values.detach().cpu().expand(shape).flatten().numpy()[exists]

        box = flat(notes.pop("box", pairs.box))
        values, conditions = _sorted(asked.rule, notes, shape, score, flat)
        winner = None if index is None else index.cpu().flatten().numpy()[flat(pairs.flat)]
        asked.events.append(
            Event(
                *(box, flat(pairs.prior), flat(score).astype(np.float64), flat(kept)),
                *(winner, limit, values, conditions),
                around=bool(asked.inner),
            )
        )

    def _said(self, asked: _Asked, found: Assignment, boxes: int) -> Event:
        """Of every prior with every box, what was noted and not yet taken."""
        index = found.gt_index.cpu().flatten()
        shape = torch.Size((len(index), boxes))
        score = self._notes.pop(UNNAMED, None)
        known = torch.is_tensor(score)
        score = score.double().expand(shape) if known else torch.full(shape, torch.nan).double()

        def flat(values: Tensor) -> NDArray[Any]:
            return values.expand(shape).flatten().numpy()

        notes = {name: x for name, x in self._notes.items() if known or name != THRESHOLD}
        values, conditions = _sorted(asked.rule, notes, shape, score, flat)
        prior, box = flat(torch.arange(len(index))[:, None]), flat(torch.arange(boxes))
        winner = flat(index[:, None])
        return Event(
            box, prior, flat(score), winner == box, winner, 0, values, conditions, told=True
        )


def _sorted(
    rule: Any, notes: dict[str, Any], shape: torch.Size, score: Tensor, flat: Any
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """Numbers and conditions of the notes; the score is a number, under the name noted for it.

    Raises UserError: a note does not fit the pairs.
    """
    name = notes.get(UNNAMED)
    values = {name if isinstance(name, str) else UNNAMED: flat(score).astype(np.float32)}
    conditions = {}
    for name, given in notes.items():
        if isinstance(given, str):
            continue
        value = torch.as_tensor(given)
        _check_fit(rule, name, value, shape)
        if value.dtype == torch.bool:
            conditions[name] = flat(value)
            continue
        values[name] = flat(value.float())
        if name == THRESHOLD:
            conditions[name] = flat(score >= value)
    return values, conditions


def _check_fit(rule: Any, name: str, value: Tensor, shape: torch.Size) -> None:
    try:
        value.expand(shape)
    except RuntimeError:
        raise UserError(
            f"rule {type(rule).__name__}: notes {name!r} of shape {tuple(value.shape)} for pairs "
            f"of shape {tuple(shape)}: note it before the step that it belongs to, in a shape "
            "that broadcasts to them"
        ) from None
