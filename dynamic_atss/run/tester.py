"""Tests the model of a run, and records the scores.

With TEST.ASYNC another process computes the scores of a test while the training continues. They
count before the next checkpoint is saved, and at once if the test may end the run. So the run, its
best model and its checkpoints are the same as without it, and a killed run loses no test: without
the scores its newest checkpoint is the one of that test, which a resumed run repeats.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer
from dynamic_atss.engine.diagnosis import LowScoreCauses
from dynamic_atss.engine.evaluator import report_scores
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.evaluation.scoring_process import ScoringFailedError, ScoringProcess
from dynamic_atss.evaluation.scoring_task import ScoringTask
from dynamic_atss.scoring import detect

logger = logging.getLogger(__name__)
_SHORT = 1.0  # seconds of a wait that is not logged
_SECONDS_TO_STOP = 15.0  # launchers and clusters kill a run about 30 seconds after their signal


@dataclass
class _Scoring:
    """Holds the detections of one test set until they are scored.

    Attributes:
        task: the detections and the ground truth; None on ranks other than 0.
        process: computes the scores; None: this process computes them.
        scores: the scores; None until they are reported, and if the set has no boxes.
        reported: True after that.
    """

    task: ScoringTask | None
    process: ScoringProcess | None = None
    scores: CocoScores | None = None
    reported: bool = False


@dataclass
class _Test:
    """Holds a test whose scores do not count yet.

    Attributes:
        iteration: the iteration after which the model was tested.
        folder: the folder of its results, below the folder of each test set.
        scorings: by test set.
    """

    iteration: int
    folder: str
    scorings: dict[str, _Scoring] = field(default_factory=dict)


@dataclass
class Tester:
    """Tests the model of a run, and writes the results to OUTPUT_DIR.

    Attributes:
        state: the state of the run.
        model: `state.tested_model`, with test-time augmentation if that is configured.
        low_score_causes: finds causes if a test detects almost nothing.
        loaders: the loader of each test set, by its name.
        device: the device of the model.
        checkpoints: the checkpoints in OUTPUT_DIR.
        metrics: writes the numbers on rank 0; None on other ranks.
        max_dets: the number of detections of an image that are scored.
        in_background: True computes the scores in another process while the training continues.
        timeout: seconds after which a process that does not finish is given up.
    """

    state: RunState
    model: nn.Module
    low_score_causes: LowScoreCauses
    loaders: dict[str, Loader]
    device: torch.device
    checkpoints: Checkpointer
    metrics: MetricsWriter | None
    max_dets: int
    in_background: bool = False
    timeout: float = 600.0
    _open: _Test | None = field(default=None, init=False)

    def test(self, iteration: int, folder: str = "", *, last: bool = False) -> None:
        """Detects in all test sets, and starts to score. It is a collective.

        Args:
            iteration: the iteration after which the model is tested.
            folder: the folder of the results, below the folder of each test set.
            last: True waits for the scores.

        Raises:
            UserError: results cannot be written.
        """
        self.take_scores()
        wait = last or not self.in_background or self.state.best.may_end
        distributed.same_buffers(self.state.tested_model)  # the checkpoint has those of rank 0
        self._open = _Test(iteration, folder)
        for name, loader in self.loaders.items():
            task = self._detect(name, loader, folder)
            self._open.scorings[name] = scoring = _Scoring(task)
            if wait:
                self._report(self._open, name)
            elif task is not None:
                scoring.process = _start(task)
        if wait:
            self.take_scores()

    def take_scores(self) -> None:
        """Lets the scores of the last test count, and waits for them. It is a collective.

        Does nothing if they count already.
        """
        test = self._open
        if test is None:
            return
        with self.state.averages.paused(), distributed.outside_iteration():
            self._wait(test)
            for name in test.scorings:
                self._report(test, name)
            self._open = None
            distributed.long_timeout_barrier()  # rank 0 takes long to score
            self._update_best(test)

    def scores_in_time(self) -> bool:
        """Waits a short time for the scores of the last test, because a signal ends the run.

        Returns False, on every process, if they are not ready. Without them no checkpoint may be
        saved, since a resumed run would not repeat the test. It is a collective.
        """
        with distributed.outside_iteration():
            late = any(distributed.gather(not self._ended(_SECONDS_TO_STOP)))
        if late and distributed.rank() == 0:
            logger.warning(
                "the scores of iteration %d are not ready after %g s: no later iteration is saved",
                self._open.iteration if self._open else 0,
                _SECONDS_TO_STOP,
            )
        return not late

    def report_ready(self) -> None:
        """Logs and writes the scores that are ready, on rank 0. They count later.

        A process that failed is left to `take_scores`. Other processes of the run wait in the next
        iteration, and their time is limited.
        """
        test = self._open
        if test is None:
            return
        with self.state.averages.paused():
            for name, scoring in test.scorings.items():
                if scoring.process is not None and scoring.process.ready():
                    self._report(test, name)

    def drop(self) -> bool:
        """Ends the scoring of the last test, whose scores do not count.

        Returns True if another process was to compute them.
        """
        test, self._open = self._open, None
        scorings = test.scorings.values() if test else ()
        running = [s.process for s in scorings if s.process is not None]
        for process in running:
            process.close()
        return bool(running)

    def close(self) -> None:
        """Ends the scoring of a test when the run ends by an error."""
        iteration = self._open.iteration if self._open else 0
        if self.drop():
            logger.info("the scores of iteration %d do not count: --resume tests again", iteration)

    def _detect(self, name: str, loader: Loader, folder: str) -> ScoringTask | None:
        return detect(
            self.model,
            loader,
            self.device,
            name,
            self._folder(name, folder),
            max_dets=self.max_dets,
        )

    def _folder(self, name: str, folder: str) -> Path:
        return self.checkpoints.folder / "inference" / name / folder

    def _ended(self, seconds: float) -> bool:
        """Waits for so many seconds. Returns True if no process computes scores any more."""
        scorings = self._open.scorings.values() if self._open else ()
        end = time.monotonic() + seconds
        return all(
            s.process is None or s.process.wait(max(0.0, end - time.monotonic())) for s in scorings
        )

    def _wait(self, test: _Test) -> None:
        """Waits until the processes have ended, and logs a wait that is not short."""
        begin = time.monotonic()
        if self._ended(_SHORT):
            return
        logger.info("waits for the scores of iteration %d before it goes on", test.iteration)
        if self._ended(self.timeout):
            logger.info("waited %.1f s for them", time.monotonic() - begin)
            return
        for scoring in test.scorings.values():
            if scoring.process is not None and not scoring.process.done():
                scoring.process.close()
                scoring.process = None
                reason = f"it did not end within {self.timeout:g} s (SOLVER.TIMEOUT)"
                logger.warning("%s", _here(reason))

    def _report(self, test: _Test, name: str) -> None:
        """Logs and writes the scores of a test set, if that is not done yet."""
        scoring = test.scorings[name]
        if scoring.reported or scoring.task is None:
            return
        scoring.scores, scoring.reported = _scores(scoring), True
        loader = self.loaders[name]
        report_scores(
            scoring.task, scoring.scores, partial(self.low_score_causes.causes, loader=loader)
        )
        if self.metrics is None:
            return
        if scoring.scores is not None:
            self.metrics.write_evaluation(test.iteration, name, scoring.scores)
        if self.metrics.draws:
            self._draw(test.iteration, name, scoring.task, self.metrics)

    def _draw(self, iteration: int, name: str, task: ScoringTask, metrics: MetricsWriter) -> None:
        """Draws a few pictures of a test set, the same ones at each test."""
        from dynamic_atss.viz.pictures import sample_pictures  # imports matplotlib

        pictures = sample_pictures(self.loaders[name].dataset, task.table)
        metrics.write_pictures(iteration, f"pictures/{name}", pictures)

    def _update_best(self, test: _Test) -> None:
        """Records on every process, by the scores of rank 0, if this test is the best."""
        best = self.state.best
        if not best.metric:
            return
        scores = next(iter(test.scorings.values())).scores
        values = distributed.gather(scores and scores.numbers[best.metric])
        if best.add(test.iteration, values[0]) and distributed.rank() == 0:
            self.checkpoints.mark_best()
        logger.info("%s", best.summary())


def _start(task: ScoringTask) -> ScoringProcess | None:
    """Starts to score in another process. Gives None, and says why, if that is not possible."""
    try:
        return ScoringProcess(task)
    except ScoringFailedError as error:
        logger.warning("%s", _here(str(error)))
        return None


def _scores(scoring: _Scoring) -> CocoScores | None:
    """Gives the scores. Computes them here if no other process did."""
    assert scoring.task is not None
    if scoring.process is None:
        return scoring.task.run()
    try:
        scored = scoring.process.result()
    except ScoringFailedError as error:
        logger.warning("%s", _here(str(error)))
        return scoring.task.run()
    scored.log()
    return scored.scores


def _here(reason: str) -> str:
    return (
        f"TEST.ASYNC: the process that computes the scores failed: {reason}. They are computed in "
        "this process, and the training waits for it"
    )
