"""What is done in an iteration that is not finite: the run stops, skips the step, or rewinds.

All processes come here in the same iteration, and rank 0 has the word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch
from torch import nn

from dynamic_atss.engine import distributed
from dynamic_atss.engine.not_finite import first_not_finite, parts
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch

logger = logging.getLogger(__name__)

_LIMIT = "SOLVER.NOT_FINITE_LIMIT"
_ADVICE = (
    "checkpoints up to here are good: lower SOLVER.BASE_LR or set SOLVER.CLIP_GRAD_NORM, and "
    "--resume"
)


@dataclass
class Setbacks:
    """What has happened so far, a part of a run's state.

    lr_factor: of all learning rates · in_a_row: skips or rewinds without progress between them ·
    iteration: the last one that was not finite
    """

    lr_factor: float = 1.0
    in_a_row: int = 0
    iteration: int = 0

    def add(self, iteration: int) -> int:
        """Counts one more; how many in a row there are now."""
        self.in_a_row += 1
        self.iteration = max(iteration, self.iteration)
        return self.in_a_row

    def passed(self, iteration: int) -> None:
        """An iteration was finite, which beyond the last setback is progress."""
        if iteration > self.iteration:
            self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Rewound(Exception):
    """Training goes on after iteration `start` with `loader`."""

    def __init__(self, start: int, loader: Iterable[Batch]) -> None:
        super().__init__(start)
        self.start, self.loader = start, loader


class Reaction(Protocol):
    """What is done; `prepare` is called before each forward pass, `react` where a loss, a gradient
    or a weight is not finite.

    `react` returns if the run goes on with the next iteration. It raises Rewound if it goes on
    elsewhere, UserError or, on ranks other than 0, SystemExit if it ends.
    """

    def prepare(self) -> None: ...

    def react(self, iteration: int, found: str) -> None: ...


class Stop:
    """The run ends."""

    def prepare(self) -> None:
        pass

    def react(self, iteration: int, found: str) -> None:
        _end(f"iteration {iteration}: {found}; {_ADVICE}, or set SOLVER.NOT_FINITE skip or rewind")


class Skip:
    """The step is left out, and the model is as it was before the iteration."""

    def __init__(self, model: nn.Module, setbacks: Setbacks, limit: int) -> None:
        """limit: so many in a row."""
        self._model, self._setbacks, self._limit = model, setbacks, limit
        # Batch norm's statistics: a forward pass changes them before its loss is known.
        self._buffers = list(model.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def prepare(self) -> None:
        torch._foreach_copy_(self._copies, self._buffers)

    @torch.no_grad()
    def react(self, iteration: int, found: str) -> None:
        torch._foreach_copy_(self._buffers, self._copies)
        line = f"iteration {iteration}: {found}"
        if first_not_finite(parts(self._model)):
            _end(f"{line}; a weight is not finite, so that no step would be; {_ADVICE}")
        if self._setbacks.add(iteration) > self._limit:
            _end(f"{line}; more than {_LIMIT} {self._limit} in a row; {_ADVICE}")
        _tell(f"{line}; the step is left out")


class Rewind:
    """The run goes back to its newest checkpoint, and on with smaller learning rates."""

    def __init__(
        self,
        go_back: Callable[[], tuple[int, Iterable[Batch]]],
        setbacks: Setbacks,
        limit: int,
        lr_factor: float,
    ) -> None:
        """go_back: puts the newest checkpoint back; its iteration, and the loader from there ·
        limit: so many times without progress · lr_factor: of the learning rates, each time."""
        self._go_back, self._setbacks = go_back, setbacks
        self._limit, self._lr_factor = limit, lr_factor

    def prepare(self) -> None:
        pass

    def react(self, iteration: int, found: str) -> None:
        line = f"iteration {iteration}: {found}"
        if self._setbacks.add(iteration) > self._limit:
            _end(f"{line}; more than {_LIMIT} {self._limit} in a row; {_ADVICE}")
        kept = self._setbacks.state_dict()
        _tell(f"{line}; the run rewinds to its newest checkpoint")
        start, loader = self._go_back()
        self._setbacks.load_state_dict(kept)  # the checkpoint has those of its own time
        self._setbacks.lr_factor *= self._lr_factor
        _tell(f"goes on after iteration {start}, learning rates x {self._setbacks.lr_factor:g}")
        raise Rewound(start, loader)


def _tell(line: str) -> None:
    if distributed.rank() == 0:
        logger.warning("%s", line)


def _end(line: str) -> NoReturn:
    if distributed.rank() > 0:  # told once
        raise SystemExit(2)
    raise UserError(f"{line}; {distributed.saved_text()}")
