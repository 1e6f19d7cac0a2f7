"""A whole run, from a configuration to scores: what tools/train_net.py and test_net.py call."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.config.load import keys_without_effect
from dynamic_atss.data.dataset import TrainingSet
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer, load_checkpoint
from dynamic_atss.engine.interrupt import EXIT_CODE
from dynamic_atss.engine.logger import setup_logging
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState, averaged_model
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.errors import UserError
from dynamic_atss.files import write_text
from dynamic_atss.ops import library
from dynamic_atss.scoring import check_expected, score, take_class_order, take_file_order
from dynamic_atss.weights import load_weights

logger = logging.getLogger(__name__)


def train(cfg: CfgNode, *, resume: bool = False, test: bool = True) -> int:
    """Trains, leaves everything in OUTPUT_DIR, and scores the final model unless `test` is False.

    Returns:
        the exit code: 0, or 143 if SIGTERM ended the run (after a checkpoint).

    Raises:
        UserError: for what the user can mend.
    """
    device = _start(cfg)
    output = Path(cfg.OUTPUT_DIR)
    checkpointer = Checkpointer(output)
    distributed.on_first(lambda: _refuse_to_overwrite(checkpointer, resume))
    _open_log(cfg, output, device)
    dataset = builders.build_train_dataset(cfg)
    test_loaders = builders.build_test_loaders(cfg) if test or cfg.TEST.PERIOD else {}
    builders.check_num_classes(cfg, dataset)
    take_class_order(dataset, test_loaders)
    _survey(cfg, dataset, test_loaders)
    state = _build_state(cfg, dataset.class_names, device)
    start = _initial_weights(cfg, state, checkpointer.latest() if resume else None)
    distributed.check_same(start, "--resume: the processes find different checkpoints")
    loader = builders.build_train_loader(cfg, dataset, start)
    first = distributed.rank() == 0
    if first:
        _write_config(cfg, output, resume)
    with MetricsWriter(output, start) if first else contextlib.nullcontext() as metrics:
        tested = builders.build_tested(cfg, state.tested)
        rest = test_loaders, device, cfg.SOLVER.MAX_ITER, output, metrics
        records = _Records(state, tested, *rest)
        finished = _build_trainer(cfg, state, loader, device, start, records).train()
        if finished and test:
            records.evaluate(cfg.SOLVER.MAX_ITER)
    distributed.shut_down()
    return 0 if finished else EXIT_CODE


@dataclass(frozen=True)
class _Records:
    """What the trainer calls, and what it leaves in OUTPUT_DIR.

    tested: `state.tested` in the passes of the test · metrics: on rank 0, else None
    """

    state: RunState
    tested: nn.Module
    test_loaders: dict[str, Loader]
    device: torch.device
    max_iter: int
    output: Path
    metrics: MetricsWriter | None

    def save(self, iteration: int) -> None:
        content = self.state.capture(iteration)
        name = "model_final" if iteration == self.max_iter else f"model_{iteration:07d}"
        if distributed.rank() == 0:
            Checkpointer(self.output).save(name, content)

    def log(self, line: dict[str, float]) -> None:
        if self.metrics is None:
            return
        values = {k: v for k, v in line.items() if k != "iteration"}
        self.metrics.write(int(line["iteration"]), values)
        numbers = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        logger.info("iteration %d/%d  %s", line["iteration"], self.max_iter, numbers)

    def evaluate(self, iteration: int) -> None:
        distributed.same_buffers(self.state.tested)  # rank 0's are those in the checkpoint
        found = score(self.tested, self.test_loaders, self.device, self.output)
        for name, scores in found.items():
            if self.metrics is not None and scores is not None:
                self.metrics.write_evaluation(iteration, name, scores)


def _build_trainer(
    cfg: CfgNode,
    state: RunState,
    loader: Loader,
    device: torch.device,
    start: int,
    records: _Records,
) -> Trainer:
    return Trainer(
        model=_parallel(state.model, device),
        loader=loader,
        optimizer=state.optimizer,
        lr_factor=builders.build_lr_factor(cfg),
        device=device,
        save=records.save,
        log=records.log,
        evaluate=records.evaluate,
        start=start,
        stop=cfg.SOLVER.MAX_ITER,
        window=state.window,
        ema=state.ema,
        accumulate=cfg.SOLVER.ACCUMULATE,
        clip_grad_norm=cfg.SOLVER.CLIP_GRAD_NORM,
        log_period=cfg.SOLVER.LOG_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        test_period=cfg.TEST.PERIOD,
    )


def test(cfg: CfgNode, *, weight_given: bool = True) -> int:
    """Scores a detector on each of DATASETS.TEST. Detections and scores go to
    OUTPUT_DIR/inference/<data set>.

    The detector is MODEL.WEIGHT if that was given on the command line (`weight_given`), else the
    last checkpoint of OUTPUT_DIR, else MODEL.WEIGHT of the YAML file.

    Returns:
        the exit code.

    Raises:
        UserError: for what the user can mend.
    """
    device = _start(cfg)
    output = Path(cfg.OUTPUT_DIR)
    weight = None if weight_given else Checkpointer(output).latest()
    weight = weight or cfg.MODEL.WEIGHT
    if not weight:
        raise UserError(
            f"MODEL.WEIGHT: nothing to test, and OUTPUT_DIR {output} holds no checkpoint; "
            "add MODEL.WEIGHT <file.pth>"
        )
    _open_log(cfg, output, device)
    loaders = builders.build_test_loaders(cfg)
    if not loaders:
        raise UserError("DATASETS.TEST is empty; add DATASETS.TEST \"('name',)\"")
    first = next(iter(loaders.values())).dataset
    builders.check_num_classes(cfg, first)
    take_file_order(first, weight)
    take_class_order(first, loaders)
    _survey(cfg, None, loaders)
    model = builders.build_model(cfg, len(first.class_names)).to(device)
    report = load_weights(model, weight, class_names=first.class_names, allow_new_classes=False)
    if any(name.startswith("head.") for name in report.initial):
        raise UserError(f"{weight}: weights of a backbone only; give those of a whole detector")
    logger.info("%s", report.summary())
    scores = score(builders.build_tested(cfg, model), loaders, device, output)
    check_expected(cfg, scores)
    distributed.shut_down()
    return 0


def _start(cfg: CfgNode) -> torch.device:
    builders.check_config(cfg)
    torch.manual_seed(cfg.SEED)
    return distributed.init_distributed(cfg.MODEL.DEVICE)


def _open_log(cfg: CfgNode, output: Path, device: torch.device) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"OUTPUT_DIR {output}: cannot be made ({error.strerror}); choose another folder"
        ) from None
    if not os.access(output, os.W_OK):
        raise UserError(f"OUTPUT_DIR {output}: cannot be written; choose another folder")
    setup_logging(output, distributed.rank())
    logger.info("operators: %s", library.serving(device.type))
    unused = keys_without_effect(cfg)
    if unused:
        logger.info("Accepted without effect (keys of two-stage models): %s", ", ".join(unused))


def _survey(cfg: CfgNode, train: TrainingSet | None, loaders: dict[str, Loader]) -> None:
    """By rank 0, while the others wait."""
    tests = [loader.dataset for loader in loaders.values()]
    distributed.on_first(lambda: builders.survey(cfg, train, tests))


def _refuse_to_overwrite(checkpointer: Checkpointer, resume: bool) -> None:
    if checkpointer.holds_run() and not resume:
        raise UserError(
            f"OUTPUT_DIR {checkpointer.folder} already holds a run: add --resume to go on with it, "
            "or choose another OUTPUT_DIR"
        )


def _build_state(cfg: CfgNode, class_names: list[str], device: torch.device) -> RunState:
    model = builders.build_model(cfg, len(class_names)).to(device)
    optimizer = builders.build_optimizer(cfg, model)
    average = averaged_model(model, cfg.SOLVER.EMA_DECAY)
    return RunState(model, optimizer, average, class_names)


def _initial_weights(cfg: CfgNode, state: RunState, checkpoint: Path | None) -> int:
    """Order matters: a run to resume before the weights to start from. Returns the iteration."""
    if checkpoint is not None:
        start = state.restore(load_checkpoint(checkpoint))
        logger.info("Resuming from %s after iteration %d", checkpoint, start)
        return start
    if cfg.MODEL.WEIGHT:
        report = load_weights(state.model, cfg.MODEL.WEIGHT, class_names=state.class_names)
        logger.info("%s", report.summary())
        if state.ema is not None:
            state.ema.module.load_state_dict(state.model.state_dict())
    else:
        logger.info("weights: none given, all at their initial values")
    return 0


def _parallel(model: nn.Module, device: torch.device) -> nn.Module:
    if distributed.world_size() == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def _write_config(cfg: CfgNode, output: Path, resume: bool) -> None:
    path = output / "config.yaml"
    text = cfg.dump()
    if resume and path.is_file() and path.read_text() != text:
        logger.warning("%s: the configuration differs from the one the run started with", path)
    write_text(path, text)
