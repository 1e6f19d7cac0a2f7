"""Reacts to an iteration that is not finite: the run stops, skips the step, or rewinds.

All processes react in the same iteration. Rank 0 writes the messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch
from torch import nn

from dynamic_atss.engine import distributed
from dynamic_atss.engine.not_finite import first_not_finite, named_tensors
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch

logger = logging.getLogger(__name__)

_LIMIT = "SOLVER.NOT_FINITE_LIMIT"
_ADVICE = (
    "the checkpoints so far are good: lower SOLVER.BASE_LR or set SOLVER.CLIP_GRAD_NORM, and "
    "--resume"
)


@dataclass
class NonFiniteCounter:
    """Counts iterations that were not finite. It is part of a run's state.

    Attributes:
        lr_factor: factor of all learning rates.
        in_a_row: skips or rewinds without progress between them.
        iteration: the last iteration that was not finite.
    """

    lr_factor: float = 1.0
    in_a_row: int = 0
    iteration: int = 0

    def add(self, iteration: int) -> int:
        """Counts a setback, and returns the number of setbacks that are now in a row."""
        self.in_a_row += 1
        self.iteration = max(iteration, self.iteration)
        return self.in_a_row

    def passed(self, iteration: int) -> None:
        """Records a finite iteration, which resets the count if it is after the last setback."""
        if iteration > self.iteration:
            self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Rewound(Exception):
    """Says that training continues after iteration `start` with `loader`."""

    def __init__(self, start: int, loader: Iterable[Batch]) -> None:
        super().__init__(start)
        self.start, self.loader = start, loader


class Reaction(Protocol):
    """Reacts to a loss, gradient or weight that is not finite."""

    def prepare(self) -> None:
        """Prepares for a forward pass. The trainer calls it before each one."""

    def react(self, iteration: int, found: str) -> None:
        """Reacts to an iteration, and returns only if the run continues with the next one.

        Args:
            found: describes the loss, gradient or weight that is not finite.

        Raises:
            Rewound: the run continues from a checkpoint.
            UserError, SystemExit: the run ends. Ranks other than 0 raise SystemExit.
        """


class Stop:
    """Ends the run."""

    def prepare(self) -> None:
        pass

    def react(self, iteration: int, found: str) -> None:
        _end(f"iteration {iteration}: {found}; {_ADVICE}, or set SOLVER.NOT_FINITE skip or rewind")


class Skip:
    """Skips the step, and restores the model as it was before the iteration."""

    def __init__(self, model: nn.Module, non_finite: NonFiniteCounter, limit: int) -> None:
        """Keeps a copy of the model's buffers.

        Args:
            limit: the largest number of skips in a row.
        """
        self._model, self._non_finite, self._limit = model, non_finite, limit
        # The forward pass changes batch norm's statistics before the loss is known.
        self._buffers = list(model.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def prepare(self) -> None:
        torch._foreach_copy_(self._copies, self._buffers)

    @torch.no_grad()
    def react(self, iteration: int, found: str) -> None:
        torch._foreach_copy_(self._buffers, self._copies)
        line = f"iteration {iteration}: {found}"
        if first_not_finite(named_tensors(self._model)):
            _end(f"{line}; a weight is not finite, so every step would fail; {_ADVICE}")
        if self._non_finite.add(iteration) > self._limit:
            _end(f"{line}; more than {_LIMIT} {self._limit} in a row; {_ADVICE}")
        _warn(f"{line}; the step is skipped")


class Rewind:
    """Goes back to the newest checkpoint, and continues with smaller learning rates.

    Args:
        go_back: restores the newest checkpoint; gives its iteration and the loader from there.
        non_finite: the count of the run.
        limit: the largest number of rewinds without progress.
        lr_factor: factor of the learning rates at each rewind.
    """

    def __init__(
        self,
        go_back: Callable[[], tuple[int, Iterable[Batch]]],
        non_finite: NonFiniteCounter,
        limit: int,
        lr_factor: float,
    ) -> None:

        self._go_back, self._non_finite = go_back, non_finite
        self._limit, self._lr_factor = limit, lr_factor

    def prepare(self) -> None:
        pass

    def react(self, iteration: int, found: str) -> None:
        line = f"iteration {iteration}: {found}"
        if self._non_finite.add(iteration) > self._limit:
            _end(f"{line}; more than {_LIMIT} {self._limit} in a row; {_ADVICE}")
        kept = self._non_finite.state_dict()
        _warn(f"{line}; the run rewinds to its newest checkpoint")
        start, loader = self._go_back()
        self._non_finite.load_state_dict(kept)  # the checkpoint has restored an older count
        self._non_finite.lr_factor *= self._lr_factor
        _warn(f"continues after iteration {start}, learning rates x {self._non_finite.lr_factor:g}")
        raise Rewound(start, loader)


def _warn(line: str) -> None:
    if distributed.rank() == 0:
        logger.warning("%s", line)


def _end(line: str) -> NoReturn:
    if distributed.rank() > 0:  # only rank 0 prints the message
        raise SystemExit(2)
    raise UserError(f"{line}; {distributed.saved_text()}")
