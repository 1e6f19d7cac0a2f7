"""The training loop."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.engine import distributed
from dynamic_atss.engine.interrupt import end_process, on_sigterm
from dynamic_atss.engine.optim import set_lr
from dynamic_atss.engine.progress import progress
from dynamic_atss.engine.window import Window
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch, to_device

logger = logging.getLogger(__name__)


@dataclass
class Trainer:
    """What a run consists of; `train` is the loop.

    model: the detector, in DistributedDataParallel where there are several processes
    loader: one batch for each forward-backward pass, `accumulate` of them for each iteration
    lr_factor: factor of the learning rates by 0-based iteration
    save: (iteration) -> None, on every process; log: a line of numbers; evaluate: (iteration) ->
    None, on every process
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
    evaluate: Callable[[int], None]
    start: int
    stop: int
    window: Window = field(default_factory=Window)
    ema: Any = None
    accumulate: int = 1
    clip_grad_norm: float = 0.0
    log_period: int = 20
    checkpoint_period: int = 2500
    test_period: int = 0
    _terminated: bool = field(default=False, init=False)

    def train(self) -> bool:
        """Runs iterations start + 1 .. stop. False if SIGTERM ended the run, after a save.

        Raises:
            UserError: a loss or a weight is not finite; nothing is saved from then on.
        """
        with on_sigterm(self._note_sigterm):
            self._test_if_due(self.start)  # a checkpoint is of the moment before its test
            batches = iter(self.loader)
            self.model.train()
            self.window.start()
            iterations = range(self.start + 1, self.stop + 1)
            for iteration in progress(iterations, "train", rank=distributed.rank()):
                if self._step(batches, iteration):
                    logger.warning(
                        "SIGTERM: saved iteration %d; --resume goes on from there", iteration
                    )
                    return False
                self._test_if_due(iteration)
        return not self._terminated

    def _step(self, batches: Iterator[Batch], iteration: int) -> bool:
        """One iteration, its line of the log and its checkpoint; True if SIGTERM came."""
        set_lr(self.optimizer, self.lr_factor(iteration - 1))
        losses, terminated = self._forward_backward(batches, iteration)
        if self.clip_grad_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(unwrap(self.model))
        self.window.add(losses)
        last = iteration == self.stop
        if iteration % self.log_period == 0 or last:
            lr = self.optimizer.param_groups[0]["lr"]
            self.log({"iteration": iteration, **self.window.close(self.device), "lr": lr})
        due = iteration % self.checkpoint_period == 0 or self._test_due(iteration)
        if due or last or terminated:
            self._check_weights(iteration)
            self.save(iteration)
        return terminated

    def _test_due(self, iteration: int) -> bool:
        """Whether a test follows this iteration; the one after the last is not the trainer's."""
        inside = self.test_period > 0 and 0 < iteration < self.stop
        return inside and iteration % self.test_period == 0

    def _test_if_due(self, iteration: int) -> None:
        """A test may take long, and everything is saved by now: SIGTERM ends it at once."""
        if self._test_due(iteration):
            with on_sigterm(end_process):
                if self._terminated:  # it came while the checkpoint was written
                    end_process()
                self.evaluate(iteration)

    def _forward_backward(
        self, batches: Iterator[Batch], iteration: int
    ) -> tuple[dict[str, float], bool]:
        """Adds up the gradient of one iteration; returns the mean loss terms over passes and
        processes, and whether any process got SIGTERM. One collective for both, on every step
        whatever the data."""
        totals: Tensor | None = None
        ids: list[int] = []
        for k in range(self.accumulate):
            with self.window.waiting_for_data():
                batch = next(batches)
            ids += batch.image_ids
            with self._no_sync(last=k == self.accumulate - 1):
                losses = self.model(to_device(batch, self.device))
                terms = torch.stack(list(losses.values())) / self.accumulate
                totals = terms.detach() if totals is None else totals + terms.detach()
                terms.sum().backward()
        assert totals is not None
        report = torch.cat((totals, totals.new_tensor([float(self._terminated)])))
        *values, terminated = distributed.average(report).tolist()
        named = dict(zip(losses, values, strict=True))
        if not all(map(math.isfinite, values)):
            self._stop_not_finite(iteration, ids, named)
        return named, terminated > 0

    def _no_sync(self, last: bool) -> contextlib.AbstractContextManager:
        """Gradients are averaged over the processes in the last pass of an iteration only."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _stop_not_finite(self, iteration: int, ids: list[int], losses: dict[str, float]) -> None:
        images = sorted(itertools.chain(*distributed.gather(ids)))
        terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
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


def unwrap(model: nn.Module) -> nn.Module:
    """The detector inside DistributedDataParallel."""
    return model.module if isinstance(model, DistributedDataParallel) else model
