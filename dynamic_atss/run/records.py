"""What the trainer calls, and what it leaves in OUTPUT_DIR."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import nn

from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer, name_after
from dynamic_atss.engine.diagnosis import Suspects
from dynamic_atss.engine.lines import Lines
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.scoring import score, take_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Records:
    """What the trainer calls, and what it leaves in OUTPUT_DIR.

    tested: `state.tested` in the passes of the test · suspects: of a test that finds nothing ·
    checkpoints: of OUTPUT_DIR · metrics: on rank 0, else None · lines: of the log ·
    max_dets: detections of an image that are scored
    """

    state: RunState
    tested: nn.Module
    suspects: Suspects
    test_loaders: dict[str, Loader]
    device: torch.device
    max_iter: int
    checkpoints: Checkpointer
    metrics: MetricsWriter | None
    lines: Lines
    max_dets: int

    def save(self, iteration: int) -> None:
        content = self.state.capture(iteration)
        last = iteration if self.state.best.enough else self.max_iter
        if distributed.rank() == 0:
            self.checkpoints.save(name_after(iteration, last), content)
        distributed.saved(f"{name_after(iteration, last)}.pth")

    def log(self, line: dict[str, float]) -> None:
        if self.metrics is None:
            return
        values = {k: v for k, v in line.items() if k != "iteration"}
        self.metrics.write(int(line["iteration"]), values)
        logger.info("%s", self.lines.text(int(line["iteration"]), values))

    def rewind(self, iteration: int) -> None:
        """The training goes on from there: what was recorded of later iterations is dropped."""
        if self.metrics is not None:
            self.metrics.rewind(iteration)

    def evaluate(self, iteration: int) -> bool:
        """A test in training, in folders of its own. Whether the run has had enough."""
        self._test(iteration, f"{iteration:07d}")
        if self.state.best.enough:
            logger.info("the run ends at iteration %d: %s", iteration, self.state.best.reason())
        return self.state.best.enough

    def finish(self, *, again: bool) -> None:
        """The test after the last iteration.

        again: also if the run ended with a test, whose results could be taken.
        """
        best = self.state.best
        if not best.enough:
            self._test(self.max_iter)
        elif again:
            self._test(best.tested)
        elif distributed.rank() == 0:
            take_results(self.checkpoints.folder, self.test_loaders, f"{best.tested:07d}")

    def _test(self, iteration: int, folder: str = "") -> None:
        distributed.same_buffers(self.state.tested)  # rank 0's are those in the checkpoint
        where = self.device, self.checkpoints.folder
        found = score(
            *(self.tested, self.test_loaders, *where, self.suspects, folder), max_dets=self.max_dets
        )
        distributed.meet_again()  # the first process scores
        for name, scores in found.items():
            if self.metrics is not None and scores is not None:
                self.metrics.write_evaluation(iteration, name, scores)
            if self.metrics is not None and self.metrics.draws:
                self._draw(iteration, name, folder, self.metrics)
        self._watch(iteration, found)

    def _draw(self, iteration: int, name: str, folder: str, metrics: MetricsWriter) -> None:
        """A few pictures of a test, the same at each one."""
        from dynamic_atss.viz.pictures import sample_pictures  # imports matplotlib

        results = self.checkpoints.folder / "inference" / name / folder / "bbox.json"
        pictures = sample_pictures(self.test_loaders[name].dataset, results)
        metrics.write_pictures(iteration, f"pictures/{name}", pictures)

    def _watch(self, iteration: int, found: dict[str, CocoScores | None]) -> None:
        """Whether the test is the best, on every process by what rank 0 knows."""
        best = self.state.best
        if not best.metric:
            return
        scores = next(iter(found.values()))
        values = distributed.gather(scores and scores.numbers[best.metric])
        if best.add(iteration, values[0]) and distributed.rank() == 0:
            self.checkpoints.mark_best()
        logger.info("%s", best.summary())
