"""Converts the state of a run to a dict of plain values, and restores it.

A resumed run gives the same bits on the same CPU with the same software and number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from dynamic_atss.engine import distributed
from dynamic_atss.engine.best import Best
from dynamic_atss.engine.log_averages import LogAverages
from dynamic_atss.engine.reactions import NonFiniteCounter
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector

logger = logging.getLogger(__name__)
_OTHER_NUMBER = (
    "resumed with %d process(es) instead of %d: each iteration has the same images in the same "
    "order, but results differ by the rounding of sums over processes, by batch norm's statistics, "
    "which each process takes of its images, and by random numbers of the network (drop path)"
)


@dataclass
class RunState:
    """Holds the parts of a run that change. `capture` gives a checkpoint, `restore` reads one.

    Attributes:
        model: the detector, without DistributedDataParallel.
        optimizer: its optimizer.
        ema: the averaged model, or None.
        class_names: the names of the classes.
        averages: the numbers that the next line of the log averages.
        best: the best test so far.
        non_finite: the count of iterations that were not finite.
        usage: entries for using the model (see `config.record.usage`). `capture` writes them,
            `restore` ignores them.
    """

    model: Detector
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None = None
    class_names: Sequence[str] = ()
    averages: LogAverages = field(default_factory=LogAverages)
    best: Best = field(default_factory=Best)
    non_finite: NonFiniteCounter = field(default_factory=NonFiniteCounter)
    usage: Mapping[str, str] = field(default_factory=dict)

    @property
    def tested_model(self) -> Detector:
        """Gives the model that is tested and released: the averaged one, if there is one."""
        return self.model if self.ema is None else cast(Detector, self.ema.module)

    def capture(self, iteration: int) -> dict[str, Any]:
        """Gives the content of a checkpoint after `iteration`. It is a collective.

        The entry `model` is the tested model. If that is averaged, `trained_model` is the trained
        one. The sampler needs no entry, because SEED and the iteration give the images' order.
        """
        content: dict[str, Any] = {
            "iteration": iteration,
            "classes": list(self.class_names),
            **self.usage,
            "model": self.tested_model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "window": self.averages.state_dict(),
            "setbacks": self.non_finite.state_dict(),
            "rng": distributed.gather(_rng_state()),
        }
        if self.ema is not None:
            content["trained_model"] = self.model.state_dict()
            content["averaged"] = int(self.ema.n_averaged)
        if self.best.metric:
            content["best"] = self.best.state_dict()
        return content

    def restore(self, content: dict[str, Any]) -> int:
        """Restores the state from a checkpoint, and returns its iteration.

        Learning rates, decays and similar settings stay as configured.

        Raises:
            UserError: the classes, the model, the optimizer or the EMA setting differ.
        """
        classes = content.get("classes", [])
        if classes != list(self.class_names):
            raise UserError(
                f"--resume: the run's classes are {classes}, those of the data set "
                f"{list(self.class_names)}; resume with the run's data set"
            )
        try:
            if self.ema is not None:
                self.ema.module.load_state_dict(content["model"])
                self.ema.n_averaged.fill_(content["averaged"])
            self.model.load_state_dict(content.get("trained_model", content["model"]))
            _restore_optimizer(self.optimizer, content["optimizer"])
            self.averages.load_state_dict(content["window"])
            self.best.load_state_dict(content.get("best", {}))
            self.non_finite.load_state_dict(content.get("setbacks", {}))
            states, iteration = content["rng"], int(content["iteration"])
            if len(states) == distributed.world_size():  # else each process keeps its new state
                _set_rng_state(states[distributed.rank()])
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"--resume: the checkpoint does not fit this configuration ({reason}); resume with "
                "the config.yaml of OUTPUT_DIR, or choose another OUTPUT_DIR"
            ) from error
        if len(states) != distributed.world_size() and distributed.rank() == 0:
            logger.warning(_OTHER_NUMBER, distributed.world_size(), len(states))
        return iteration


def _restore_optimizer(optimizer: torch.optim.Optimizer, content: dict[str, Any]) -> None:
    """Restores momenta and similar state, but keeps the current settings.

    Raises:
        ValueError: the content is of another optimizer.
    """
    settings = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    saved = content["param_groups"]
    # Neither device nor SOLVER.FUSED of the saved run matter, and older files may lack the entry.
    if (set(saved[0]) ^ set(optimizer.param_groups[0])) - {"fused"}:
        raise ValueError("it is of another SOLVER.OPTIMIZER")
    if len(saved) != len(settings):
        raise ValueError("it has another number of parameter groups")
    # PyTorch puts the counts of AdamW on the device that the settings need, so they come first.
    groups = [{**own, "params": g["params"]} for own, g in zip(settings, saved, strict=True)]
    optimizer.load_state_dict({**content, "param_groups": groups})
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = _laid_out_as(parameter, value)


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Gives the value with the strides of its parameter, which fused kernels need.

    They differ if MODEL.CHANNELS_LAST has changed.
    """
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _rng_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_rng_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
