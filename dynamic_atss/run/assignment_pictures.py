"""Draws pictures of the assignment in some training steps."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from dynamic_atss.assigners import recording
from dynamic_atss.engine.log_averages import LogAverages
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.types import Assignment, Batch, Priors

logger = logging.getLogger(__name__)

COUNT = 4  # images of a batch that are drawn


class Assignments:
    """Keeps the assignments of the outermost rules, in order, as a `Recorder`."""

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
        """Ignores the intermediate values of a rule, which are not drawn."""

    def chosen(self, *_: Any) -> None: ...

    def resolved(self, *_: Any) -> None: ...

    def capped(self, *_: Any) -> None: ...


class AssignmentPictures:
    """Draws the assignments of a training step that is computed inside its context manager.

    It records the assignments of that step, so that nothing is computed twice, and no other step is
    changed.

    Args:
        period: iterations between pictures; 0: none.
        metrics: shows the pictures; None: there are none.
        class_names: the names of the classes.
        averages: measures the time of the training, without that of the drawing.
    """

    def __init__(
        self,
        period: int,
        metrics: MetricsWriter | None,
        class_names: Sequence[str],
        averages: LogAverages,
    ) -> None:
        self._period, self._metrics = period, metrics
        self._class_names, self._averages = class_names, averages

    @contextlib.contextmanager
    def __call__(self, iteration: int, batch: Batch) -> Iterator[None]:
        """Draws the assignments of the block if pictures are due.

        Args:
            iteration: the iteration.
            batch: the batch on the device.
        """
        if not self._due(iteration):
            yield
            return
        assignments = Assignments()
        with recording.record_with(assignments):
            yield
        with self._averages.paused():
            self._draw(iteration, batch, assignments)

    def _due(self, iteration: int) -> bool:
        enabled = self._period and self._metrics is not None and self._metrics.draws
        return bool(enabled) and (iteration == 1 or iteration % self._period == 0)

    def _draw(self, iteration: int, batch: Batch, assignments: Assignments) -> None:
        """Draws and writes the pictures. Only logs an error, so that the run continues."""
        assert self._metrics is not None
        try:
            from dynamic_atss.viz.assignment import draw_assignment

            branches = assignments.kept
            for number, (priors, assignment) in enumerate(branches):
                drawn = draw_assignment(batch, priors, assignment, self._class_names, count=COUNT)
                group = "assignment" if len(branches) == 1 else f"assignment/branch{number}"
                pictures = {f"image{n}": picture for n, picture in enumerate(drawn)}
                self._metrics.write_pictures(iteration, group, pictures)
        except Exception as error:
            logger.warning("the assignment is not drawn: %s", " ".join(str(error).split()))
