"""Records the steps of a rule as NumPy arrays on the CPU."""

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
CAP = "within_per_box"  # the condition that `resolve` notes for pairs that have won


@dataclass(frozen=True)
class Event:
    """Describes one step of a rule, which handles M pairs of one image.

    Attributes:
        box, prior, score: (M,).
        kept: (M,) True if the step selects the pair.
        winner: (M,) the gt index of the pair's prior after the step. None: the step gives priors
            to no box.
        limit: the number of pairs of a box that the step keeps; 0: any number.
        values, conditions: by name, (M,) notes of the rule.
        by_wrapper: True if a wrapper made the step, after its inner rule had answered.
        from_notes: True if the event holds all pairs and comes only from notes, as for a rule
            that handles one image and calls no helper of `pairs`.
    """

    box: NDArray[Any]
    prior: NDArray[Any]
    score: NDArray[Any]
    kept: NDArray[np.bool_]
    winner: NDArray[Any] | None = None
    limit: int = 0
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    conditions: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    by_wrapper: bool = False
    from_notes: bool = False


@dataclass(frozen=True)
class Answer:
    """Holds the inputs, the steps and the assignment of one rule.

    Attributes:
        rule: the rule.
        priors, gt, predictions: its inputs.
        found: its assignment.
        events: its steps.
        inner: the answers of the rules that it wraps, in order of the calls.
    """

    rule: Any
    priors: Priors
    gt: GroundTruth
    predictions: Predictions
    found: Assignment
    events: list[Event]
    inner: list[Answer]


@dataclass
class _OpenCall:
    rule: Any
    events: list[Event] = field(default_factory=list)
    inner: list[Answer] = field(default_factory=list)


class Record:
    """Records rules that assign one image, as a `Recorder`.

    Attributes:
        answers: the answers of the outermost rules, in order of the calls.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._asked: list[_OpenCall] = []
        self._notes: dict[str, Any] = {}

    def note(self, values: dict[str, Any]) -> None:
        for name, value in values.items():  # copied, because the rule may change its tensors later
            self._notes[name] = value.detach().cpu().clone() if torch.is_tensor(value) else value

    def chosen(self, pairs: Pairs, score: Tensor, k: int, boxes: int, places: Tensor) -> None:
        kept = np.zeros(score.numel(), dtype=bool)
        kept[places[places >= 0].cpu().numpy()] = True
        self._add(pairs, score, torch.from_numpy(kept).view(score.shape), limit=k)

    def resolved(self, pairs: Pairs, selected: Tensor, score: Tensor, index: Tensor) -> None:
        self._add(pairs, score, selected, index=index)

    def capped(self, pairs: Pairs, kept: Tensor, score: Tensor, index: Tensor) -> None:
        if self._asked:
            name = next(iter(self._asked[-1].events[-1].values))  # the noted name of the score
            self.note({UNNAMED: name, CAP: kept})
        self.resolved(pairs, kept, score, index)

    def begin(self, rule: Any) -> None:
        self._asked.append(_OpenCall(rule))
        self._notes = {}

    def end(
        self, priors: Priors, gt: GroundTruth, predictions: Predictions, found: Assignment
    ) -> None:
        asked = self._asked.pop()
        if any(not isinstance(value, str) for value in self._notes.values()):
            asked.events.append(self._event_from_notes(asked, found, len(gt)))
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
        """Adds the event of a helper's call, with the notes that came before it."""
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
                box=box,
                prior=flat(pairs.prior),
                score=flat(score).astype(np.float64),
                kept=flat(kept),
                winner=winner,
                limit=limit,
                values=values,
                conditions=conditions,
                by_wrapper=bool(asked.inner),
            )
        )

    def _event_from_notes(self, asked: _OpenCall, found: Assignment, boxes: int) -> Event:
        """Gives an event of every prior with every box, made of the notes that no step used."""
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
            box, prior, flat(score), winner == box, winner, 0, values, conditions, from_notes=True
        )


def _sorted(
    rule: Any, notes: dict[str, Any], shape: torch.Size, score: Tensor, flat: Any
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
    """Separates the notes into numbers and conditions. Adds the score under its noted name.

    Raises:
        UserError: a note does not broadcast to the pairs.
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
            f"rule {type(rule).__name__}: note {name!r} has shape {tuple(value.shape)}, which does "
            f"not broadcast to the pairs' shape {tuple(shape)}; call note() directly before the "
            "step that makes these pairs"
        ) from None
