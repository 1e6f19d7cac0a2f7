"""Pictures of what a training step assigns, every so often."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from dynamic_atss.assigners import notes
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.window import Window
from dynamic_atss.types import Assignment, Batch, Priors

logger = logging.getLogger(__name__)

COUNT = 4  # images of a batch


class Answers:
    """A `Recorder` that keeps the answers of the rules that no rule is around, in order."""

    def __init__(self) -> None:
        self.kept: list[tuple[Priors, Assignment]] = []
        self._depth = 0

    def begin(self, rule: Any) -> None:
        self._depth += 1

    def end(self, priors: Priors, gt: Any, predictions: Any, found: Assignment) -> None:
        self._depth -= 1
        if not self._depth:
            self.kept.append((priors, found))

    def note(self, values: dict[str, Any]) -> None:
        """How a rule comes to its answer is not shown."""

    def chosen(self, *_: Any) -> None: ...

    def resolved(self, *_: Any) -> None: ...

    def capped(self, *_: Any) -> None: ...


class Watch:
    """What a step is computed in. The answers of the step itself are drawn: nothing is computed
    again, and no other step is touched.

    period: iterations between pictures, 0: none · metrics: None: nobody shows them · window: whose
    times leave the drawing out
    """

    def __init__(
        self,
        period: int,
        metrics: MetricsWriter | None,
        class_names: Sequence[str],
        window: Window,
    ) -> None:
        self._period, self._metrics = period, metrics
        self._class_names, self._window = class_names, window

    @contextlib.contextmanager
    def __call__(self, iteration: int, batch: Batch) -> Iterator[None]:
        """batch: on the device."""
        if not self._due(iteration):
            yield
            return
        answers = Answers()
        with notes.record_to(answers):
            yield
        with self._window.paused():
            self._show(iteration, batch, answers)

    def _due(self, iteration: int) -> bool:
        shown = self._period and self._metrics is not None and self._metrics.draws
        return bool(shown) and (iteration == 1 or iteration % self._period == 0)

    def _show(self, iteration: int, batch: Batch, answers: Answers) -> None:
        """A picture that fails must not end the run."""
        assert self._metrics is not None
        try:
            from dynamic_atss.viz.assignment import draw_assignment

            for number, (priors, found) in enumerate(answers.kept):
                drawn = draw_assignment(batch, priors, found, self._class_names, count=COUNT)
                group = "assignment" if len(answers.kept) == 1 else f"assignment/branch{number}"
                pictures = {f"image{n}": picture for n, picture in enumerate(drawn)}
                self._metrics.write_pictures(iteration, group, pictures)
        except Exception as error:
            logger.warning("the assignment is not drawn: %s", " ".join(str(error).split()))
