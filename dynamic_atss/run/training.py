"""A training from its configuration to its scores: what tools/train_net.py calls."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss import builders, summary
from dynamic_atss.config.record import tell_changes, write_config
from dynamic_atss.data.loader import Loader
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer, naming
from dynamic_atss.engine.interrupt import Stopped, on_signals, stop_now
from dynamic_atss.engine.lines import Clock, Lines
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.engine.wandb_run import WandbRun, check_wandb
from dynamic_atss.run.last_words import last_words
from dynamic_atss.run.records import Records
from dynamic_atss.run.start import (
    begin,
    goes_on,
    locked,
    open_folder,
    refuse_to_overwrite,
    survey,
    tell_unused,
)
from dynamic_atss.run.wiring import build_state, build_trainer, initial_weights
from dynamic_atss.scoring import check_metric, suspects_of_run, take_class_order

logger = logging.getLogger(__name__)


@distributed.naming_the_lost()
def train(cfg: CfgNode, *, resume: bool = False, test: bool = True) -> int:
    """Trains, leaves everything in OUTPUT_DIR, and scores the final model unless `test` is False.

    Returns:
        the exit code: 0, or 128 + its number if a signal ended the run (after a checkpoint).

    Raises:
        UserError: for what the user can correct.
    """
    clock = Clock()
    check_wandb(cfg.WANDB.PROJECT)
    device = begin(cfg)
    output = Path(cfg.OUTPUT_DIR)
    open_folder(output)
    checkpoints = Checkpointer(output, cfg.SOLVER.KEEP_CHECKPOINTS)
    try:
        with locked(output), last_words(checkpoints), on_signals(stop_now):
            resume = goes_on(checkpoints) or resume
            if not resume:
                refuse_to_overwrite(checkpoints)
            _train(cfg, device, checkpoints, resume=resume, test=test)
            logger.info("Done after %s; results in %s", clock, output)
    except Stopped as stopped:
        return stopped.exit_code
    distributed.shut_down()
    return 0


def _train(
    cfg: CfgNode, device: torch.device, checkpoints: Checkpointer, *, resume: bool, test: bool
) -> None:
    output, first = checkpoints.folder, distributed.rank() == 0
    tell_unused(cfg)
    if first and resume:  # before what the changes may bring about
        tell_changes(cfg, output)
    dataset = builders.build_train_dataset(cfg)
    test_loaders = builders.build_test_loaders(cfg) if test or cfg.TEST.PERIOD else {}
    builders.check_num_classes(cfg, dataset)
    take_class_order(dataset.class_names, test_loaders)
    distributed.on_first(lambda: check_metric(cfg.TEST.BEST_METRIC, test_loaders))
    survey(cfg, dataset, test_loaders)
    state = build_state(cfg, dataset, device)
    start = initial_weights(cfg, state, checkpoints, resume=resume)
    distributed.check_same(start, "--resume: the processes find different checkpoints")
    loader = builders.build_train_loader(cfg, dataset, start)
    if first:
        write_config(cfg, output, start)
    writer = _writer(cfg, output, start) if first else contextlib.nullcontext()
    with _plot_at_end(output), writer as metrics:
        if metrics is not None:
            _describe(cfg, state, dataset, test_loaders, device, start, metrics)
        records = Records(
            state=state,
            tested=builders.build_test_model(cfg, state.tested),
            suspects=suspects_of_run(cfg, state),
            test_loaders=test_loaders,
            device=device,
            max_iter=cfg.SOLVER.MAX_ITER,
            checkpoints=checkpoints,
            metrics=metrics,
            lines=Lines(cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH),
            max_dets=cfg.TEST.DETECTIONS_PER_IMG,
        )
        ended = state.best.enough  # and is resumed: its last test was in another process
        if not ended:
            build_trainer(cfg, dataset, loader, start, records).train()
        if test:
            with naming():
                records.finish(again=ended)


def _writer(cfg: CfgNode, output: Path, start: int) -> MetricsWriter:
    """Of the numbers, on rank 0."""
    wandb = cfg.WANDB
    more = [WandbRun(output, wandb.PROJECT, wandb.NAME)] if wandb.PROJECT else []
    return MetricsWriter(output, start, more=more)


def _describe(
    cfg: CfgNode,
    state: RunState,
    dataset: TrainingSet,
    test_loaders: dict[str, Loader],
    device: torch.device,
    start: int,
    metrics: MetricsWriter,
) -> None:
    """The block at the start of the log; TensorBoard gets it, too, and the configuration."""
    tested = [loader.dataset for loader in test_loaders.values()]
    text = summary.of_training(cfg, state.model, dataset, tested, device, start)
    logger.info("%s", text)
    metrics.write_run(text, cfg.dump(), summary.hyperparameters(cfg), test_loaders)


@contextlib.contextmanager
def _plot_at_end(output: Path) -> Iterator[None]:
    """`losses.png` of all that `metrics.jsonl` holds, however the run ends."""
    try:
        yield
    finally:
        if distributed.rank() == 0:
            _plot(output)


def _plot(output: Path) -> None:
    """A picture that fails (the memory is full, and it needs some) must not hide why a run ends."""
    try:
        from dynamic_atss.viz.report import plot_run  # imports matplotlib

        plot_run(output)
    except Exception as error:
        logger.warning("losses.png is not drawn: %s", " ".join(str(error).split()))
