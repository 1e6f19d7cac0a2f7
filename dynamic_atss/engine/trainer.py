"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import naming
from dynamic_atss.engine.feed import Feed
from dynamic_atss.engine.interrupt import Stopped, on_signals, stop_now
from dynamic_atss.engine.lines import first_text
from dynamic_atss.engine.memory import naming_batch
from dynamic_atss.engine.names import Names
from dynamic_atss.engine.not_finite import (
    first_not_finite,
    gradient_norm,
    parts,
    what_is_not_finite,
)
from dynamic_atss.engine.optim import set_lr
from dynamic_atss.engine.report import Report, Status
from dynamic_atss.engine.setbacks import Reaction, Rewound, Setbacks, Stop
from dynamic_atss.engine.window import Window
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.progress import progress
from dynamic_atss.types import Batch, to_device

logger = logging.getLogger(__name__)


@dataclass(repr=False)  # Python's signal.signal asks for it, of a method's object, each time
class Trainer:
    """What a run consists of; `train` is the loop.

    model: batch -> `Terms`; in DistributedDataParallel where there are several processes
    loader: one batch for each iteration
    lr_factor: factor of the learning rates by 0-based iteration
    save: (iteration) -> None, on every process; log: a line of numbers; evaluate: (iteration) ->
    whether the run has had enough, on every process and the same on all
    window: what the next line of the log averages
    ema: averaged model (torch.optim.swa_utils.AveragedModel) or None
    setbacks, reaction: what was not finite so far, and what is done where something is not
    largest_logit: batch on the device -> the largest logit of the model, in absolute value
    watch: (iteration, batch on the device) -> what the losses and gradients of it are computed in
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
    setbacks: Setbacks = field(default_factory=Setbacks)
    reaction: Reaction = field(default_factory=Stop)
    largest_logit: Callable[[Batch], float] | None = None
    watch: Callable[[int, Batch], AbstractContextManager[None]] = lambda *_: nullcontext()
    _signal: int = field(default=0, init=False)
    _names: Names = field(default_factory=Names, init=False)

    def train(self) -> None:
        """Runs iterations start + 1 .. stop, or to the test that has had enough.

        Raises:
            Stopped: a signal ended the run, after a save.
            UserError: a loss, gradient or weight is not finite, and nothing is saved from then on;
                or the data of the next iteration cannot be read, after a save; or the memory is
                full.
        """
        with on_signals(self._note_signal):
            # A checkpoint is of the moment before its test.
            enough = self.start if self._test_if_due(self.start) else self._iterate()
            if enough:
                self._end_early(enough)
        if self._signal:  # it came to this process after the last step
            raise Stopped(self._signal)

    def _iterate(self) -> int:
        """The iteration whose test has had enough, 0 if there was none."""
        while True:
            try:
                return self._stretch()
            except Rewound as rewound:
                self.start, self.loader = rewound.start, rewound.loader
                self.optimizer.zero_grad(set_to_none=True)  # of the step that was not taken

    def _stretch(self) -> int:
        """As `_iterate`, which calls it again after each rewind."""
        feed = Feed(iter(self.loader), self.window)
        self.model.train()
        self.window.start()
        iterations = range(self.start + 1, self.stop + 1)
        try:
            with self._ended_by_signals():  # nothing would be lost
                feed.fetch()
            for iteration in progress(iterations, "train", rank=distributed.rank()):
                with distributed.iteration(iteration):
                    finite = self._step(feed, iteration)
                if finite and self._test_if_due(iteration):
                    return iteration
        finally:
            feed.close()
        return 0

    def _step(self, feed: Feed, iteration: int) -> bool:
        """One iteration, its line of the log and its checkpoint. Whether it was finite."""
        begin = time.perf_counter()
        set_lr(self.optimizer, self.lr_factor(iteration - 1) * self.setbacks.lr_factor)
        status = self._learn(feed, iteration)
        last = iteration == self.stop
        if (iteration % self.log_period == 0 or last) and self.window.count:
            self._log(iteration)
        elif iteration == self.start + 1:
            work = feed.images * distributed.world_size(), time.perf_counter() - begin
            loss = sum(status.losses.values())
            logger.info("%s", first_text(iteration, self.stop, loss, *work))
        due = iteration % self.checkpoint_period == 0 or self._test_due(iteration)
        # Weights that have just led to numbers that are not finite may always do so.
        if last or (status.finite and (due or status.stopping or status.failed)):
            self._check_weights(iteration)
            self.save(iteration)
        if status.failed:
            with naming():
                feed.raise_failure(iteration + 1, status.failed)
        if status.stopping:  # the signal may have come to another process alone
            raise Stopped(next(filter(None, distributed.gather(self._signal))))
        return status.finite

    def _learn(self, feed: Feed, iteration: int) -> Status:
        """The step of an iteration, which is not taken where its numbers are not finite."""
        batch = feed.take()
        self.reaction.prepare()
        with naming_batch(batch, f"iteration {iteration}"):
            moved = to_device(replace(batch, iteration=iteration - 1), self.device)
            with self.watch(iteration, moved):
                report = Report(Terms.of(self.model(moved)), self._names)
            with distributed.waiting():  # by DistributedDataParallel
                report.loss.backward()
        if iteration < self.stop:
            self._fetch(feed)
        with naming_batch(batch, f"iteration {iteration}"):
            norm = gradient_norm(self.model.parameters())
            # One collective tells all processes the means and whether any of them has to stop.
            failed = feed.failure.exit_code if feed.failure else 0
            status = report.status(norm, self._signal > 0, failed)
            if status.finite:
                self._update(norm)
        if status.finite:
            self.window.add(status.losses, status.metrics)
            self.setbacks.passed(iteration)
        else:
            self._not_finite(iteration, status, moved)
        self.optimizer.zero_grad(set_to_none=True)
        return status

    def _fetch(self, feed: Feed) -> None:
        """A signal ends the wait for data: the batch will not be needed."""
        try:
            with self._ended_by_signals():
                feed.fetch()
        except Stopped as stopped:
            self._note_signal(stopped.number)

    @contextmanager
    def _ended_by_signals(self) -> Iterator[None]:
        """A signal ends what is done inside at once, also one that came before."""
        with on_signals(stop_now):
            if self._signal:
                stop_now(self._signal)
            yield

    def _update(self, norm: torch.Tensor) -> None:
        if self.clip_grad_norm:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_grad_norm, norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update_parameters(unwrap(self.model))

    def _log(self, iteration: int) -> None:
        lr = self.optimizer.param_groups[0]["lr"]
        self.log({"iteration": iteration, **self.window.close(self.device), "lr": lr})

    def _end_early(self, iteration: int) -> None:
        """What `_step` does after the last iteration, for one that turned out to be it."""
        if self.window.count:
            # A resumed run has not yet set it.
            set_lr(self.optimizer, self.lr_factor(iteration - 1) * self.setbacks.lr_factor)
            self._log(iteration)
        self.save(iteration)

    def _test_due(self, iteration: int) -> bool:
        """Whether a test follows this iteration; the one after the last is not the trainer's."""
        inside = self.test_period > 0 and 0 < iteration < self.stop
        return inside and iteration % self.test_period == 0

    def _test_if_due(self, iteration: int) -> bool:
        """Whether the run has had enough. A test may take long, and everything is saved by now:
        a signal ends it at once."""
        if not self._test_due(iteration):
            return False
        with self._ended_by_signals(), naming(), self.window.paused():
            return bool(self.evaluate(iteration))

    def _not_finite(self, iteration: int, status: Status, moved: Batch) -> None:
        measure = self.largest_logit
        logit = None if measure is None else lambda: measure(moved)
        found = what_is_not_finite(unwrap(self.model), status, moved, logit)
        self.reaction.react(iteration, found)

    def _check_weights(self, iteration: int) -> None:
        """A finite gradient may still be too large for a step: do not let its weights replace a
        good checkpoint."""
        # Batch norm's statistics are each process's own.
        found = distributed.gather(first_not_finite(parts(unwrap(self.model))))
        if name := next(filter(None, found), ""):
            self.reaction.react(iteration, f"{name} is not finite, nothing was saved")

    def _note_signal(self, number: int, *_: Any) -> None:
        self._signal = number


def unwrap(model: nn.Module) -> nn.Module:
    """The detector inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model
