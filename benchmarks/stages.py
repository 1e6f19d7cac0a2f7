"""Splits the time of a train step and of inference into stages, by the profiler.

    python benchmarks/stages.py [--device cuda] [--batch 16] [--size 800 1344] [--dtype bfloat16]
        [--channels-last] [--steps 3] [--opts KEY VALUE ...]

Runs the loops of the trainer and of the evaluator over one batch in host memory, with averaged
weights (SOLVER.EMA_DECAY 0.9998, off by default). On a CPU it measures operators and the Python
code around them. On a GPU it measures kernels. Two more rows there count the copies and the waits
of a step, and give the share of the step that is no convolution, each with the goal beside it.
An operator of the backward pass belongs to the stage of its forward operator.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import detectors
import torch
from common import Call, Row, alternate, main
from detector_steps import CLASSES, CONFIG, padded, scene, spread_scores
from detectors import filled, title
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from transfers import count_transfers, noted

from dynamic_atss.builders import build_model, build_optimizer
from dynamic_atss.config.load import load_config
from dynamic_atss.data import loader
from dynamic_atss.engine import evaluator, trainer
from dynamic_atss.engine.weight_average import WeightAverage, averaged_model
from dynamic_atss.modeling import postprocess
from dynamic_atss.modeling.layers import FrozenBatchNorm2d
from dynamic_atss.types import Batch

MARK = "stage: "
AROUND = ("decode", "assignment", "losses", "post-processing", "NMS", "priors", "copies to device")
# Part of a name -> stage, for operators outside all ranges.
OF_OPERATOR = {
    "aten::convolution": "convolutions",
    "aten::relu": "ReLU",
    "AccumulateGrad": "sums of gradients",
    "Optimizer.step": "optimizer",
    "Optimizer.zero_grad": "gradients to None",
}
OF_MODULE = {FrozenBatchNorm2d: "batch norms", nn.GroupNorm: "group norms"}
REST = "other layers, Python"


def arguments(parser: argparse.ArgumentParser) -> None:
    detectors.arguments(parser)
    parser.add_argument("--steps", type=int, default=3, help="number of steps that are profiled")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE")


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    args = filled(args)
    loops = Loops(args)
    found = []
    with marked_engine():
        for name, loop in (("train step", loops.train), ("inference", loops.infer)):
            loop(2)  # caches, momenta
            seconds = spent_by_stage(lambda loop=loop: loop(args.steps), args)
            if args.device == "cuda":
                found.append(transfers(name, loop, args))
                found.append(not_convolution(name, loop, seconds, args))
            found += table(f"where the time goes: {name}", seconds, args)
    return found


def transfers(name: str, loop: Callable[[int], object], args: argparse.Namespace) -> dict[str, Any]:
    """Counts the copies and the waits of a step, as calls of CUDA.

    It counts twice the steps less once the steps, because beginning and end of a loop have their
    own.
    """
    once, twice = (count_transfers(events_of(loop, n * args.steps)) for n in (1, 2))
    numbers = {key: (twice[key] - once[key]) / args.steps for key in once}
    row = line("copies and waits in each", name, None, noted(numbers), args)
    return {**row, "numbers": numbers}


def events_of(loop: Callable[[int], object], steps: int) -> list[tuple[str, float]]:
    """Returns (name, start in microseconds) of what the profiler sees on host and GPU."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        loop(steps)
    return [(event.name, event.time_range.start) for event in record.events()]


def not_convolution(
    name: str, loop: Callable[[int], object], seconds: Counter[str], args: argparse.Namespace
) -> dict[str, Any]:
    """Gives the share of the wall time of a step in which no kernel of a convolution runs."""
    lengths = (args.steps, 2 * args.steps)
    once, twice = alternate([lambda n=n: loop(n) for n in lengths], args.seconds, args.device)
    wall = (twice - once) / args.steps  # without beginning and end of a loop
    share = 1 - seconds["convolutions"] / max(wall, seconds.total())
    note = f"{share:.1%} of the step (goal: under 10 %); kernels {1e3 * seconds.total():.4g} ms"
    row = line("not convolution", name, wall, note, args)
    return {**row, "numbers": {"not_convolution": share}}


def pinned(batch: Batch) -> Batch:
    """Pins a batch as the loader does it."""
    return loader._WorkerBatch(batch).pin_memory().batch


def table(stage: str, seconds: Counter[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    total = sum(seconds.values())
    around = sum(seconds[name] for name in AROUND)
    parts = [*seconds.most_common(), (", ".join(AROUND), around), ("all", total)]
    return [line(stage, name, value, f"{value / total:.2%}", args) for name, value in parts]


def line(
    stage: str, name: str, seconds: float | None, note: str, args: argparse.Namespace
) -> dict[str, Any]:
    return Row(f"{stage}, {title(args)}", name, seconds, note=note, device=args.device).to_dict()


class Loops:
    """Runs the loops of the trainer and of the evaluator over the same batch `steps` times."""

    def __init__(self, args: argparse.Namespace) -> None:
        overrides = ["DTYPE", args.dtype, "MODEL.CHANNELS_LAST", str(args.channels_last)]
        overrides += ["SOLVER.EMA_DECAY", "0.9998", "SOLVER.BASE_LR", "1e-7", *args.opts]
        cfg = load_config(CONFIG, overrides)
        self.device = torch.device(args.device)
        self.batch = padded(scene(args.batch, tuple(args.size), args.boxes))
        if args.device == "cuda":
            self.batch = pinned(self.batch)
        self.model = build_model(cfg, CLASSES).to(self.device)
        spread_scores(self.model, lambda: self.infer(1))
        self.optimizer = build_optimizer(cfg, self.model)
        self.ema = averaged_model(self.model, cfg.SOLVER.EMA_DECAY)
        mark_model(self.model)

    def train(self, steps: int) -> None:
        nothing: Any = lambda *_: None  # noqa: E731
        trainer.Trainer(
            model=self.model,
            loader=[self.batch] * steps,
            optimizer=self.optimizer,
            lr_factor=lambda _: 1.0,
            device=self.device,
            save=nothing,
            log=nothing,
            evaluate=nothing,
            start=0,
            stop=steps,
            ema=self.ema,
        ).train()

    def infer(self, steps: int) -> None:
        for _ in range(steps):
            evaluator.run_detection(
                self.model, [self.batch], self.device, category_ids=range(CLASSES)
            )


def mark_model(model: nn.Module) -> None:
    """Puts the stages of the model into ranges of the profiler."""
    rule = model.criterion
    rule.assigner = Ranged(rule.assigner, "assignment")
    for coder in {rule.coder, model.postprocess.coder}:
        coder.decode = Ranged(coder.decode, "decode")
    model.normalize = Ranged(model.normalize, "normalisation of pixels")
    model.priors = Ranged(model.priors, "priors")
    rule.forward = Ranged(rule.forward, "losses")
    model.postprocess = Ranged(model.postprocess, "post-processing")
    for module in model.modules():
        for name in ("forward", "forward_") if type(module) in OF_MODULE else ():
            if hasattr(module, name):
                setattr(module, name, Ranged(getattr(module, name), OF_MODULE[type(module)]))


@contextlib.contextmanager
def marked_engine() -> Iterator[None]:
    """Puts the stages outside the model into ranges of the profiler."""
    places: list[tuple[Any, str, str]] = [
        (trainer, "to_device", "copies to device"),
        (evaluator, "to_device", "copies to device"),
        (evaluator, "detection_table", "results"),
        (WeightAverage, "update_parameters", "averaged weights"),
    ]
    places += [(postprocess, name, "NMS") for name in vars(postprocess) if name.endswith("_nms")]
    with contextlib.ExitStack() as stack:
        for owner, name, stage in places:
            stack.enter_context(mock.patch.object(owner, name, ranged(getattr(owner, name), stage)))
        # This counts only the wait of the last iteration, before its checkpoint.
        stack.enter_context(mock.patch.object(trainer.Trainer, "_check_weights"))
        yield


def ranged(call: Callable[..., Any], stage: str) -> Callable[..., Any]:
    @functools.wraps(call)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with record_function(MARK + stage):
            return call(*args, **kwargs)

    return inside


class Ranged:
    """Calls an object inside a range of the profiler; passes its attributes on."""

    def __init__(self, call: Callable[..., Any], stage: str) -> None:
        self._call, self._stage = call, stage

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with record_function(MARK + self._stage):
            return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def spent_by_stage(call: Call, args: argparse.Namespace) -> Counter[str]:
    """Returns the seconds of a step by stage: of kernels on a GPU, of operators on a CPU."""
    gpu = args.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as record, record_function(MARK + REST):
        call()
    events = [e for e in record.events() if e.device_type == torch.autograd.DeviceType.CPU]
    forward = {
        e.sequence_nr: stage_of(e)
        for e in sorted(events, key=lambda e: e.time_range.start)  # the last operator made the node
        if e.sequence_nr >= 0 and node_of(e) is None
    }
    seconds: Counter[str] = Counter()
    for event in events:
        node = node_of(event)
        stage = stage_of(event) if node is None else forward.get(node.sequence_nr, stage_of(event))
        time = event.self_device_time_total if gpu else event.self_cpu_time_total
        seconds[stage] += time / 1e6 / args.steps
    return seconds


def ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """Yields the event, its caller, the caller of that, and so on."""
    while event is not None:
        yield event
        event = event.cpu_parent


def node_of(event: FunctionEvent) -> FunctionEvent | None:
    """Returns the node of the backward pass that the event belongs to."""
    nodes = (e for e in ancestors(event) if "evaluate_function" in e.name)
    return next((e for e in nodes if "AccumulateGrad" not in e.name), None)


def stage_of(event: FunctionEvent) -> str:
    """Returns the stage of an event, by its innermost range or by the operator."""
    names = [e.name for e in ancestors(event)]
    marks = [name.removeprefix(MARK) for name in names if name.startswith(MARK)]
    if marks and marks[0] != REST:
        return marks[0]
    known = (stage for name in names for part, stage in OF_OPERATOR.items() if part in name)
    return next(known, REST)


if __name__ == "__main__":
    main(__doc__, rows, arguments)
