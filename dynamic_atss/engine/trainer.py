"""Runs the training loop."""

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
from dynamic_atss.engine.checkpoint import naming_checkpoint
from dynamic_atss.engine.interrupt import Stopped, on_signals, stop_now
from dynamic_atss.engine.log_averages import LogAverages
from dynamic_atss.engine.log_lines import first_text
from dynamic_atss.engine.memory import naming_batch
from dynamic_atss.engine.names import Names
from dynamic_atss.engine.not_finite import (
    describe_not_finite,
    first_not_finite,
    gradient_norm,
    named_tensors,
)
from dynamic_atss.engine.optim import set_lr
from dynamic_atss.engine.prefetch import Prefetcher
from dynamic_atss.engine.reactions import NonFiniteCounter, Reaction, Rewound, Stop
from dynamic_atss.engine.report import Report, Status
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.progress import progress
from dynamic_atss.types import Batch, to_device

logger = logging.getLogger(__name__)


@dataclass(repr=False)  # signal.signal formats the handler's object by repr, which would be slow
class Trainer:
    """Trains a model by `train`.

    Attributes:
        model: gives the `Terms` of a batch. It is in DistributedDataParallel for several processes.
        loader: gives one batch for each iteration.
        optimizer: the optimizer of the model.
        lr_factor: gives the factor of the learning rates by 0-based iteration.
        device: the device of the model.
        save: saves a checkpoint of an iteration; called on every process.
        log: writes a line of numbers.
        evaluate: tests after an iteration; called on every process. Gives True, equally on all, if
            the run ends early.
        may_save: called on every process before the checkpoint of a run that a signal ends. Gives
            False, equally on all, if the run ends without it.
        start: the iteration after which the training starts.
        stop: the last iteration.
        averages: the numbers that the next line of the log averages.
        ema: averaged model (torch.optim.swa_utils.AveragedModel) or None.
        clip_grad_norm: the largest norm of the gradient; 0: no limit.
        log_period, checkpoint_period, test_period: iterations between lines of the log, checkpoints
            and tests; test_period 0: no tests.
        non_finite: the count of iterations that were not finite.
        reaction: reacts to an iteration that is not finite.
        largest_logit: gives the largest logit, in absolute value, for a batch on the device.
        step_context: gives a context manager for an iteration and its batch on the device, in which
            the losses are computed.
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
    averages: LogAverages = field(default_factory=LogAverages)
    ema: Any = None
    clip_grad_norm: float = 0.0
    log_period: int = 20
    checkpoint_period: int = 2500
    test_period: int = 0
    non_finite: NonFiniteCounter = field(default_factory=NonFiniteCounter)
    reaction: Reaction = field(default_factory=Stop)
    largest_logit: Callable[[Batch], float] | None = None
    step_context: Callable[[int, Batch], AbstractContextManager[None]] = lambda *_: nullcontext()
    may_save: Callable[[], bool] = lambda: True
    _signal: int = field(default=0, init=False)
    _names: Names = field(default_factory=Names, init=False)

    def train(self) -> None:
        """Runs the iterations start + 1 .. stop, or until a test ends the run.

        Raises:
            Stopped: a signal ended the run, after a checkpoint.
            UserError: the data of the next iteration cannot be read, after a checkpoint; or a loss,
                gradient or weight is not finite, or the memory is full, without a checkpoint.
        """
        with on_signals(self._note_signal):
            # Checkpoints are saved before their test, so a resumed run begins with the test.
            last = self.start if self._test_if_due(self.start) else self._iterate()
            if last:
                self._end_early(last)
        if self._signal:  # it came after the last step
            raise Stopped(self._signal)

    def _iterate(self) -> int:
        """Runs the iterations. Gives the iteration whose test ended the run; 0 if no test did."""
        while True:
            try:
                return self._iterate_until_rewind()
            except Rewound as rewound:
                self.start, self.loader = rewound.start, rewound.loader
                self.optimizer.zero_grad(set_to_none=True)  # of the step that was not taken
                # The checkpoint does not know its test, as in a resumed run.
                if self._test_if_due(self.start):
                    return self.start

    def _iterate_until_rewind(self) -> int:
        """Does the work of `_iterate`, which calls it again after each rewind."""
        prefetcher = Prefetcher(iter(self.loader), self.averages)
        self.model.train()
        self.averages.start()
        iterations = range(self.start + 1, self.stop + 1)
        try:
            with self._ended_by_signals():  # there is nothing to save yet
                prefetcher.fetch()
            for iteration in progress(iterations, "train", rank=distributed.rank()):
                with distributed.iteration(iteration):
                    finite = self._step(prefetcher, iteration)
                if finite and self._test_if_due(iteration):
                    return iteration
        finally:
            prefetcher.close()
        return 0

    def _step(self, prefetcher: Prefetcher, iteration: int) -> bool:
        """Runs an iteration, with its line of the log and its checkpoint.

        Returns True if it was finite.
        """
        begin = time.perf_counter()
        set_lr(self.optimizer, self.lr_factor(iteration - 1) * self.non_finite.lr_factor)
        status = self._learn(prefetcher, iteration)
        last = iteration == self.stop
        if (iteration % self.log_period == 0 or last) and self.averages.count:
            self._log(iteration)
        elif iteration == self.start + 1:
            text = first_text(
                iteration,
                self.stop,
                loss=sum(status.losses.values()),
                images=prefetcher.images * distributed.world_size(),
                seconds=time.perf_counter() - begin,
            )
            logger.info("%s", text)
        due = iteration % self.checkpoint_period == 0 or self._test_due(iteration)
        # After numbers that are not finite, the weights may be bad: they do not replace a good
        # checkpoint.
        saves = last or (status.finite and (due or status.stopping or status.failed))
        if saves and (not status.stopping or self.may_save()):
            self._check_weights(iteration)
            self.save(iteration)
        if status.failed:
            with naming_checkpoint():
                prefetcher.raise_failure(iteration + 1, status.failed)
        if status.stopping:  # the signal may have come only to another process
            raise Stopped(next(filter(None, distributed.gather(self._signal))))
        return status.finite

    def _learn(self, prefetcher: Prefetcher, iteration: int) -> Status:
        """Computes the losses and takes the step, if all numbers are finite."""
        batch = prefetcher.take()
        self.reaction.prepare()
        with naming_batch(batch, f"iteration {iteration}"):
            moved = to_device(replace(batch, iteration=iteration - 1), self.device)
            with self.step_context(iteration, moved):
                report = Report(Terms.of(self.model(moved)), self._names)
            with distributed.waiting():  # DistributedDataParallel waits for the other processes
                report.loss.backward()
        if iteration < self.stop:
            self._fetch(prefetcher)
        with naming_batch(batch, f"iteration {iteration}"):
            norm = gradient_norm(self.model.parameters())
            # One collective shares the means, and whether any process has to stop.
            failed = prefetcher.failure.exit_code if prefetcher.failure else 0
            status = report.status(norm, self._signal > 0, failed)
            if status.finite:
                self._update(norm)
        if status.finite:
            self.averages.add(status.losses, status.metrics)
            self.non_finite.passed(iteration)
        else:
            self._not_finite(iteration, status, moved)
        self.optimizer.zero_grad(set_to_none=True)
        return status

    def _fetch(self, prefetcher: Prefetcher) -> None:
        """Fetches the next batch. A signal ends the wait, because the batch will not be needed."""
        try:
            with self._ended_by_signals():
                prefetcher.fetch()
        except Stopped as stopped:
            self._note_signal(stopped.number)

    @contextmanager
    def _ended_by_signals(self) -> Iterator[None]:
        """Lets a signal end the block at once, also a signal that came before."""
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
        self.log({"iteration": iteration, **self.averages.close(self.device), "lr": lr})

    def _end_early(self, iteration: int) -> None:
        """Logs and saves after an iteration whose test ended the run.

        `_step` does the same at the end of the run.
        """
        if self.averages.count:
            # A resumed run has not set the rate yet.
            set_lr(self.optimizer, self.lr_factor(iteration - 1) * self.non_finite.lr_factor)
            self._log(iteration)
        self.save(iteration)

    def _test_due(self, iteration: int) -> bool:
        """Returns True if a test follows this iteration.

        The test after the last iteration is not done here.
        """
        during_training = self.test_period > 0 and 0 < iteration < self.stop
        return during_training and iteration % self.test_period == 0

    def _test_if_due(self, iteration: int) -> bool:
        """Tests if a test is due, and returns True if the run ends early.

        A signal ends the test at once, because it can take long and everything is saved.
        """
        if not self._test_due(iteration):
            return False
        with self._ended_by_signals(), naming_checkpoint(), self.averages.paused():
            return bool(self.evaluate(iteration))

    def _not_finite(self, iteration: int, status: Status, moved: Batch) -> None:
        measure = self.largest_logit
        logit = None if measure is None else lambda: measure(moved)
        found = describe_not_finite(unwrap(self.model), status, moved, logit)
        self.reaction.react(iteration, found)

    def _check_weights(self, iteration: int) -> None:
        """Prevents a checkpoint with weights that are not finite.

        They can occur after a too large step.
        """
        # The names are gathered, because batch norm's statistics differ between processes.
        names = distributed.gather(first_not_finite(named_tensors(unwrap(self.model))))
        if name := next(filter(None, names), ""):
            self.reaction.react(iteration, f"{name} is not finite, nothing was saved")

    def _note_signal(self, number: int, *_: Any) -> None:
        self._signal = number


def unwrap(model: nn.Module) -> nn.Module:
    """Gives the detector inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model
