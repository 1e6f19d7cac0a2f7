"""Saves, logs and tests a training run, when the trainer asks for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer, name_after, naming_checkpoint
from dynamic_atss.engine.log_lines import LogFormatter
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.run.tester import Tester
from dynamic_atss.scoring import take_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """Saves, logs and tests a training run, and writes the results to OUTPUT_DIR.

    Attributes:
        state: the state of the run.
        tester: tests the model.
        max_iter: the last iteration.
        checkpoints: the checkpoints in OUTPUT_DIR.
        metrics: writes the numbers on rank 0; None on other ranks.
        lines: formats the lines of the log.
    """

    state: RunState
    tester: Tester
    max_iter: int
    checkpoints: Checkpointer
    metrics: MetricsWriter | None
    lines: LogFormatter

    def save(self, iteration: int) -> None:
        """Saves a checkpoint. The scores of the last test count before, because it holds them."""
        with naming_checkpoint():
            self.tester.take_scores()
        content = self.state.capture(iteration)
        last = iteration if self.state.best.enough else self.max_iter
        if distributed.rank() == 0:
            self.checkpoints.save(name_after(iteration, last), content)
        distributed.note_saved(f"{name_after(iteration, last)}.pth")

    def log(self, line: dict[str, float]) -> None:
        if self.metrics is None:
            return
        values = {k: v for k, v in line.items() if k != "iteration"}
        self.metrics.write(int(line["iteration"]), values)
        logger.info("%s", self.lines.text(int(line["iteration"]), values))
        with naming_checkpoint():
            self.tester.report_ready()

    def rewind(self, iteration: int) -> None:
        """Drops the records after `iteration`, from which the training continues."""
        self.tester.drop()
        if self.metrics is not None:
            self.metrics.rewind(iteration)

    def evaluate(self, iteration: int) -> bool:
        """Tests during the training, into folders named by the iteration.

        Returns True if the run ends early (TEST.PATIENCE).
        """
        best = self.state.best
        self.tester.test(iteration, f"{iteration:07d}")
        if best.enough:
            logger.info("the run ends at iteration %d: %s", iteration, best.reason())
        return best.enough

    def finish(self, *, repeat_last: bool) -> None:
        """Tests after the last iteration, or uses the results of the test that ended the run.

        Args:
            repeat_last: test again even if a test ended the run.
        """
        best = self.state.best
        if not best.enough:
            self.tester.test(self.max_iter, last=True)
        elif repeat_last:
            self.tester.test(best.last_counted, last=True)
        elif distributed.rank() == 0:
            take_results(self.checkpoints.folder, self.tester.loaders, f"{best.last_counted:07d}")
