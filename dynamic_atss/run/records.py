"""Saves, logs and tests a training run, when the trainer asks for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import nn

from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer, name_after
from dynamic_atss.engine.diagnosis import LowScoreCauses
from dynamic_atss.engine.log_lines import LogFormatter
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.scoring import score, take_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """Saves, logs and tests a training run, and writes the results to OUTPUT_DIR.

    Attributes:
        state: the state of the run.
        test_model: `state.tested_model`, with test-time augmentation if that is configured.
        low_score_causes: finds causes if a test detects almost nothing.
        checkpoints: the checkpoints in OUTPUT_DIR.
        metrics: writes the numbers on rank 0; None on other ranks.
        lines: formats the lines of the log.
        max_dets: the number of detections of an image that are scored.
    """

    state: RunState
    test_model: nn.Module
    low_score_causes: LowScoreCauses
    test_loaders: dict[str, Loader]
    device: torch.device
    max_iter: int
    checkpoints: Checkpointer
    metrics: MetricsWriter | None
    lines: LogFormatter
    max_dets: int

    def save(self, iteration: int) -> None:
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

    def rewind(self, iteration: int) -> None:
        """Drops the records after `iteration`, from which the training continues."""
        if self.metrics is not None:
            self.metrics.rewind(iteration)

    def evaluate(self, iteration: int) -> bool:
        """Tests during the training, into folders named by the iteration.

        Returns True if the run ends early (TEST.PATIENCE).
        """
        self._test(iteration, f"{iteration:07d}")
        if self.state.best.enough:
            logger.info("the run ends at iteration %d: %s", iteration, self.state.best.reason())
        return self.state.best.enough

    def finish(self, *, repeat_last: bool) -> None:
        """Tests after the last iteration, or uses the results of the test that ended the run.

        Args:
            repeat_last: test again even if a test ended the run.
        """
        best = self.state.best
        if not best.enough:
            self._test(self.max_iter)
        elif repeat_last:
            self._test(best.last_counted)
        elif distributed.rank() == 0:
            take_results(self.checkpoints.folder, self.test_loaders, f"{best.last_counted:07d}")

    def _test(self, iteration: int, folder: str = "") -> None:
        distributed.same_buffers(self.state.tested_model)  # the checkpoint has those of rank 0
        results = score(
            self.test_model,
            self.test_loaders,
            self.device,
            self.checkpoints.folder,
            self.low_score_causes,
            folder,
            max_dets=self.max_dets,
        )
        distributed.long_timeout_barrier()  # rank 0 takes long to score
        for name, scores in results.items():
            if self.metrics is not None and scores is not None:
                self.metrics.write_evaluation(iteration, name, scores)
            if self.metrics is not None and self.metrics.draws:
                self._draw(iteration, name, folder, self.metrics)
        self._update_best(iteration, results)

    def _draw(self, iteration: int, name: str, folder: str, metrics: MetricsWriter) -> None:
        """Draws a few pictures of a test set, the same ones at each test."""
        from dynamic_atss.viz.pictures import sample_pictures  # imports matplotlib

        file = self.checkpoints.folder / "inference" / name / folder / "bbox.json"
        pictures = sample_pictures(self.test_loaders[name].dataset, file)
        metrics.write_pictures(iteration, f"pictures/{name}", pictures)

    def _update_best(self, iteration: int, results: dict[str, CocoScores | None]) -> None:
        """Records on every process, by the scores of rank 0, if this test is the best."""
        best = self.state.best
        if not best.metric:
            return
        scores = next(iter(results.values()))
        values = distributed.gather(scores and scores.numbers[best.metric])
        if best.add(iteration, values[0]) and distributed.rank() == 0:
            self.checkpoints.mark_best()
        logger.info("%s", best.summary())
