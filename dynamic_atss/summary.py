"""Describes what a run will do, in a block at the start of its log."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.builders.heads import head_key
from dynamic_atss.builders.rules import (
    one_to_one_arguments,
    rule_arguments,
    rule_name,
    rule_origin,
)
from dynamic_atss.config import describe
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.engine import distributed
from dynamic_atss.ops import library
from dynamic_atss.version import __version__

Row = tuple[str, str]
_WIDTH = 92  # characters of a row's text

PLAIN_ATSS = "for plain ATSS set MODEL.ASSIGNER.NAME atss"


def of_training(
    cfg: CfgNode,
    model: nn.Module,
    dataset: TrainingSet,
    test_sets: Sequence[TrainingSet],
    device: torch.device,
    start: int,
) -> str:
    """Describes a training run.

    Args:
        test_sets: the sets that are tested.
        start: the number of iterations that are already done.
    """
    rows = [
        _head_row(cfg),
        *_rule_rows(cfg),
        *_model_rows(cfg, model),
        *_machine_rows(cfg, device),
        ("batch", _batch(cfg)),
        *_schedule_rows(cfg, builders.images_per_epoch(cfg, dataset), start),
        *_data_rows([("train", dataset), *(("test", x) for x in test_sets)]),
        ("seed", str(cfg.SEED)),
        *_version_rows(device),
    ]
    return _block(f"Training in {cfg.OUTPUT_DIR}", rows)


def of_test(
    cfg: CfgNode, model: nn.Module, test_sets: Sequence[TrainingSet], device: torch.device
) -> str:
    """Describes a test. Leaves out the assignment rule, because detections do not depend on it.

    Args:
        test_sets: the sets that are tested.
    """
    rows = [
        _head_row(cfg),
        *_model_rows(cfg, model),
        *_machine_rows(cfg, device),
        ("batch", f"{cfg.TEST.IMS_PER_BATCH} images"),
        *_data_rows([("test", dataset) for dataset in test_sets]),
        *_version_rows(device),
    ]
    return _block(f"Test in {cfg.OUTPUT_DIR}", rows)


def hyperparameters(cfg: CfgNode) -> dict[str, Any]:
    """Gives the rule of a run, and the keys whose values are not the defaults."""
    return {"rule": rule_name(cfg, builders.build_head(cfg)), **describe.changed(cfg)}


def _block(title: str, rows: Sequence[Row]) -> str:
    width = max(len(label) for label, _ in rows)
    return "\n".join([title, *(f"  {label:<{width}}  {text}".rstrip() for label, text in rows)])


def _head_row(cfg: CfgNode) -> Row:
    return "head", f"{type(builders.build_head(cfg)).__name__} ({head_key(cfg)})"


def _rule_rows(cfg: CfgNode) -> Iterator[Row]:
    head = builders.build_head(cfg)
    rule = rule_name(cfg, head)
    yield "rule", _with_arguments(rule, rule_arguments(cfg, head))
    unnamed = not cfg.MODEL.ASSIGNER.NAME
    hint = f"; {PLAIN_ATSS}" if unnamed and rule == "dynamic_atss" else ""
    yield "", f"{rule_origin(cfg, head)}{hint}"
    if second := cfg.MODEL.ONE_TO_ONE.NAME:
        yield "one to one", _with_arguments(second, one_to_one_arguments(cfg))


def _with_arguments(rule: str, arguments: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{k} {v}" for k, v in arguments.items())
    return f"{rule} ({shown})" if shown else rule


def _model_rows(cfg: CfgNode, model: nn.Module) -> Iterator[Row]:
    yield "body", cfg.MODEL.BACKBONE.CONV_BODY
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    part = "all" if trained == count else f"{trained:,}"
    yield "parameters", f"{count:,}, {part} of them trained"


def _machine_rows(cfg: CfgNode, device: torch.device) -> Iterator[Row]:
    processes = distributed.world_size()
    times = f"{processes} x " if processes > 1 else ""
    if device.type == "cuda":
        yield "device", f"{times}cuda, {torch.cuda.get_device_name(device)}"
    else:
        threads = _counted(torch.get_num_threads(), "thread")
        yield "device", f"{times}{device.type}, {_processor()}, {threads}"
    yield "precision", ", ".join(_precision(cfg, device))


def _precision(cfg: CfgNode, device: torch.device) -> Iterator[str]:
    if cfg.DTYPE != "float32":
        yield f"{cfg.DTYPE} (autocast)"
    elif device.type == "cuda" and _convolves_in_tf32():
        yield "float32, convolutions in TF32"
    else:
        yield "float32"
    if cfg.MODEL.CHANNELS_LAST:
        yield "channels last"
    if cfg.MODEL.COMPILE:
        yield "compiled"
    if cfg.MODEL.CUDA_GRAPHS and device.type == "cuda":
        yield "CUDA graphs"


def _convolves_in_tf32() -> bool:
    cudnn: Any = torch.backends.cudnn  # the stubs do not know `conv`
    return cudnn.conv.fp32_precision == "tf32"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _processor() -> str:
    """Gives the name of the CPU, or its architecture if the system does not give a name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _batch(cfg: CfgNode) -> str:
    images, passes = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE
    processes = distributed.world_size()
    parts = [_counted(processes, "process", "processes")]
    parts += [f"{passes} passes (SOLVER.ACCUMULATE)"] if passes > 1 else []
    parts += [_counted(images // processes // passes, "image")]
    return f"{_counted(images, 'image')} an iteration = {' x '.join(parts)}"


def _schedule_rows(cfg: CfgNode, epoch: float, start: int) -> Iterator[Row]:
    solver = cfg.SOLVER
    epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / epoch
    done = f", {start:,} iterations done" if start else ""
    iterations = _counted(solver.MAX_ITER, "iteration")
    yield "schedule", f"{iterations} = {epochs:.1f} epochs{done}"
    yield "", ", ".join(_rates(cfg))
    periods = f"a line every {solver.LOG_PERIOD} iterations, a checkpoint every "
    tests = f"every {cfg.TEST.PERIOD}" if cfg.TEST.PERIOD else "at the end"
    tests += ", scored by another process" if cfg.TEST.PERIOD and cfg.TEST.ASYNC else ""
    yield "", f"{periods}{solver.CHECKPOINT_PERIOD}, tests {tests}"


def _rates(cfg: CfgNode) -> Iterator[str]:
    """Describes the optimizer and the course of the learning rate."""
    solver = cfg.SOLVER
    yield f"{solver.OPTIMIZER} at {solver.BASE_LR:g}"
    if solver.WARMUP_ITERS:
        factor = f"from x {solver.WARMUP_FACTOR:.3g}"
        yield f"{solver.WARMUP_METHOD} warm-up {factor} over {solver.WARMUP_ITERS:,} iterations"
    if solver.SCHEDULE == "cosine":
        yield "cosine to 0"
    elif steps := [f"{step:,}" for step in solver.STEPS if step < solver.MAX_ITER]:
        yield f"x {solver.GAMMA:g} at {' and '.join(steps)}"
    if solver.CLIP_GRAD_NORM:
        yield f"gradients clipped at {solver.CLIP_GRAD_NORM:g}"
    if solver.EMA_DECAY:
        yield f"weights averaged ({solver.EMA_DECAY:g})"


def _data_rows(datasets: Sequence[tuple[str, TrainingSet]]) -> Iterator[Row]:
    """Gives a row for each data set, then the classes and box counts of the first."""
    counts = [_boxes_by_class(dataset) for _, dataset in datasets]
    for (label, dataset), boxes in zip(datasets, counts, strict=True):
        content = f"{_counted(len(dataset), 'image')}, {_counted(boxes.sum(), 'box', 'boxes')}"
        yield label, f"{content}: {dataset.annotations}"
    names = datasets[0][1].class_names
    yield "classes", f"{len(names)}: {_classes(names, counts[0])}"


def _boxes_by_class(dataset: TrainingSet) -> np.ndarray:
    return np.bincount(dataset.classes_by_image()[1], minlength=len(dataset.class_names))


def _classes(names: Iterable[str], counts: Iterable[int]) -> str:
    """Lists as many classes as a row can hold, each with its number of boxes."""
    text, omitted = "", 0
    for name, count in zip(names, counts, strict=True):
        entry = f"{', ' if text else ''}{name} {count:,}"
        has_room = not omitted and len(text) + len(entry) <= _WIDTH
        if has_room or not text:
            text += entry
        else:
            omitted += 1
    return f"{text}, and {omitted:,} more" if omitted else text


def _version_rows(device: torch.device) -> Iterator[Row]:
    cuda = f"CUDA {torch.version.cuda}" if device.type == "cuda" else "CUDA not used"
    yield (
        "versions",
        f"dynamic_atss {__version__}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, {cuda}",
    )
    yield "operators", library.serving(device.type)
