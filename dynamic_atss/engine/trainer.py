"""The training loop."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import name_after, naming
from dynamic_atss.engine.interrupt import end_process, on_sigterm
from dynamic_atss.engine.names import Names
from dynamic_atss.engine.optim import set_lr
from dynamic_atss.engine.report import Report, Status
from dynamic_atss.engine.window import Window
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.progress import progress
from dynamic_atss.types import Batch, to_device

logger = logging.getLogger(__name__)


@dataclass
class Trainer:
    """What a run consists of; `train` is the loop.

    model: batch -> `Terms`; in DistributedDataParallel where there are several processes
    loader: one batch for each iteration
    lr_factor: factor of the learning rates by 0-based iteration
    save: (iteration) -> None, on every process; log: a line of numbers; evaluate: (iteration) ->
    whether the run has had enough, on every process and the same on all
    window: what the next line of the log averages
    ema: averaged model (torch.optim.swa_utils.AveragedModel) or None
    """

    model: nn.Module
    loader: Iterable[Batch]
    optimizer: torch.optim.Optimizer
    lr_factor: Callable[[int], float]
    device: torch.device
    save: Callable[[int], None]
    log: Callable[[dict[str, float]], None]
    evaluate: Callable[[int], bool | None]
    start: int
    stop: int
    window: Window = field(default_factory=Window)
    ema: Any = None
    clip_grad_norm: float = 0.0
    log_period: int = 20
    checkpoint_period: int = 2500
    test_period: int = 0
    _terminated: bool = field(default=False, init=False)
    _names: Names = field(default_factory=Names, init=False)

    def train(self) -> bool:
        """Runs iterations start + 1 .. stop, or to the test that has had enough. False if SIGTERM
        ended the run, after a save.

        Raises:
            UserError: a loss or a weight is not finite, and nothing is saved from then on; or the
                data of the next iteration cannot be read, after a save.
        """
        with on_sigterm(self._note_sigterm):
            # A checkpoint is of the moment before its test.
            enough = self.start if self._test_if_due(self.start) else self._iterate()
            if enough:
                self._end_early(enough)
        return not self._terminated

    def _iterate(self) -> int:
        """The iteration whose test has had enough, 0 if there was none."""
        feed = _Feed(iter(self.loader), self.window)
        self.model.train()
        self.window.start()
        iterations = range(self.start + 1, self.stop + 1)
        for iteration in progress(iterations, "train", rank=distributed.rank()):
            with distributed.iteration(iteration):
                status = self._step(feed, iteration)
            if status.data_failed:
                with naming(name_after(iteration, self.stop)):
                    feed.raise_failure()
            if status.terminated:
                logger.warning(
                    "SIGTERM: saved iteration %d; --resume goes on from there", iteration
                )
                self._terminated = True  # the signal may have come to another process alone
                return 0
            if self._test_if_due(iteration):
                return iteration
        return 0

    def _step(self, feed: _Feed, iteration: int) -> Status:
        """One iteration, its line of the log and its checkpoint."""
        set_lr(self.optimizer, self.lr_factor(iteration - 1))
        status = self._forward_backward(feed, iteration)
        if self.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(unwrap(self.model))
        self.window.add(status.losses, status.metrics)
        last = iteration == self.stop
        if iteration % self.log_period == 0 or last:
            self._log(iteration)
        due = iteration % self.checkpoint_period == 0 or self._test_due(iteration)
        if due or last or status.terminated or status.data_failed:
            self._check_weights(iteration)
            self.save(iteration)
        return status

    def _log(self, iteration: int) -> None:
        lr = self.optimizer.param_groups[0]["lr"]
        self.log({"iteration": iteration, **self.window.close(self.device), "lr": lr})

    def _end_early(self, iteration: int) -> None:
        """What `_step` does after the last iteration, for one that turned out to be it."""
        if self.window.count:
            set_lr(self.optimizer, self.lr_factor(iteration - 1))  # a resumed run has not yet
            self._log(iteration)
        self.save(iteration)

    def _test_due(self, iteration: int) -> bool:
        """Whether a test follows this iteration; the one after the last is not the trainer's."""
        inside = self.test_period > 0 and 0 < iteration < self.stop
        return inside and iteration % self.test_period == 0

    def _test_if_due(self, iteration: int) -> bool:
        """Whether the run has had enough. A test may take long, and everything is saved by now:
        SIGTERM ends it at once."""
        if not self._test_due(iteration):
            return False
        with on_sigterm(end_process):
            if self._terminated:  # it came while the checkpoint was written
                end_process()
            with naming(name_after(iteration, self.stop)), self.window.paused():
                return bool(self.evaluate(iteration))

    def _forward_backward(self, feed: _Feed, iteration: int) -> Status:
        """The gradient of one iteration. One collective tells all processes the mean loss terms
        and metrics and whether any of them has to stop, in every step, with and without boxes."""
        batch = feed.take()
        moved = to_device(replace(batch, iteration=iteration - 1), self.device)
        report = Report(Terms.of(self.model(moved)), self._names)
        report.loss.backward()
        if iteration < self.stop:
            feed.fetch()
        status = report.status(self._terminated, feed.failure is not None)
        if not all(map(math.isfinite, status.losses.values())):
            self._stop_not_finite(iteration, list(batch.image_ids), status.losses)
        return status

    def _stop_not_finite(self, iteration: int, ids: list[int], losses: dict[str, float]) -> None:
        images = sorted(itertools.chain(*distributed.gather(ids)))
        terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if distributed.rank() > 0:  # told once
            raise SystemExit(2)
        raise UserError(
            f"iteration {iteration}: the loss is not finite ({terms}) on image ids {images}; "
            "checkpoints up to here are good: lower SOLVER.BASE_LR or set SOLVER.CLIP_GRAD_NORM, "
            "and --resume"
        )

    def _check_weights(self, iteration: int) -> None:
        """A finite loss may have an infinite gradient: do not let its weights replace a good
        checkpoint."""
        for name, parameter in unwrap(self.model).named_parameters():
            if not bool(parameter.isfinite().all()):
                raise UserError(
                    f"iteration {iteration}: {name} is not finite, nothing was saved; "
                    "lower SOLVER.BASE_LR or set SOLVER.CLIP_GRAD_NORM, and --resume"
                )

    def _note_sigterm(self, *_: Any) -> None:
        self._terminated = True


class _Feed:
    """The batch of one iteration after the other, fetched an iteration ahead.

    So a file that cannot be read is known before the step that needs it, while the processes can
    still agree to save and stop.
    """

    def __init__(self, batches: Iterator[Batch], window: Window) -> None:
        self._batches = batches
        self._window = window
        self._ahead: Batch | None = None
        self.failure: UserError | None = None

    def fetch(self) -> None:
        """Fetches the next iteration's batch; a UserError is kept as `failure`."""
        try:
            with self._window.waiting_for_data():
                self._ahead = next(self._batches, None)
        except UserError as error:
            self.failure = error

    def take(self) -> Batch:
        """The batch fetched last; that of the first iteration is fetched now."""
        if self._ahead is None:
            self.fetch()
        if self.failure is not None:
            raise self.failure
        if self._ahead is None:
            raise RuntimeError("the loader ended before the last iteration")
        batch, self._ahead = self._ahead, None
        return batch

    def raise_failure(self) -> NoReturn:
        """Ends every process; the one whose data failed has the word."""
        raise self.failure or SystemExit(2)


def unwrap(model: nn.Module) -> nn.Module:
    """The detector inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model
