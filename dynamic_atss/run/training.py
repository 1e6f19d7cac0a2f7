"""Trains a detector from a configuration and scores it, for the command `train`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss import builders, summary
from dynamic_atss.config.record import log_changes, write_config
from dynamic_atss.data.loader import Loader
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer, naming_checkpoint
from dynamic_atss.engine.interrupt import Stopped, on_signals, stop_now
from dynamic_atss.engine.log_lines import Clock, LogFormatter
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.engine.wandb_run import WandbRun, check_wandb
from dynamic_atss.run.records import Records
from dynamic_atss.run.start import (
    begin,
    locked,
    log_unused_keys,
    opened_folder,
    refuse_to_overwrite,
    restarted,
    survey,
)
from dynamic_atss.run.stop_message import log_stop
from dynamic_atss.run.wiring import build_state, build_tester, build_trainer, initial_weights
from dynamic_atss.scoring import check_metric, take_class_order

logger = logging.getLogger(__name__)


@distributed.naming_lost_process()
def train(cfg: CfgNode, *, resume: bool = False, test: bool = True) -> int:
    """Trains a detector, writes everything to OUTPUT_DIR, and scores the final model.

    Args:
        resume: True continues the run in OUTPUT_DIR.
        test: True scores the final model.

    Returns:
        the exit code: 0, or 128 + N if signal N ended the run, after a checkpoint.

    Raises:
        UserError: a mistake that the user can correct.
    """
    clock = Clock()
    check_wandb(cfg.WANDB.PROJECT)
    device = begin(cfg)
    output = Path(cfg.OUTPUT_DIR)
    checkpoints = Checkpointer(output, cfg.SOLVER.KEEP_CHECKPOINTS)
    try:
        with (
            opened_folder(output),
            locked(output),
            log_stop(checkpoints),
            on_signals(stop_now),
        ):
            resume = restarted(checkpoints) or resume
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
    log_unused_keys(cfg)
    if first and resume:  # before an error that the changes may cause
        log_changes(cfg, output)
    dataset = builders.build_train_dataset(cfg)
    test_loaders = builders.build_test_loaders(cfg) if test or cfg.TEST.PERIOD else {}
    builders.check_num_classes(cfg, dataset)
    take_class_order(dataset.class_names, test_loaders)
    distributed.on_rank_0(lambda: check_metric(cfg.TEST.BEST_METRIC, test_loaders))
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
        tester = build_tester(cfg, state, test_loaders, device, checkpoints, metrics)
        lines = LogFormatter(cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH)
        records = Records(state, tester, cfg.SOLVER.MAX_ITER, checkpoints, metrics, lines)
        ended_early = state.best.enough  # then the run was resumed after its last test
        with contextlib.closing(tester):
            if not ended_early:
                build_trainer(cfg, dataset, loader, start, records).train()
            if test:
                with naming_checkpoint():
                    records.finish(repeat_last=ended_early)


def _writer(cfg: CfgNode, output: Path, start: int) -> MetricsWriter:
    """Makes the writer of numbers, which rank 0 uses."""
    wandb = cfg.WANDB
    boards = [WandbRun(output, wandb.PROJECT, wandb.NAME)] if wandb.PROJECT else []
    return MetricsWriter(output, start, boards=boards)


def _describe(
    cfg: CfgNode,
    state: RunState,
    dataset: TrainingSet,
    test_loaders: dict[str, Loader],
    device: torch.device,
    start: int,
    metrics: MetricsWriter,
) -> None:
    """Writes the summary of the run to the log, and with the configuration to the boards.

    Warns of a warm-up that is not shorter than the training, and of TEST.ASYNC without a test.
    """
    test_sets = [loader.dataset for loader in test_loaders.values()]
    text = summary.of_training(cfg, state.model, dataset, test_sets, device, start)
    logger.info("%s", text)
    if warning := builders.long_warmup(cfg):
        logger.warning("%s", warning)
    if cfg.TEST.ASYNC and not cfg.TEST.PERIOD:
        logger.warning("TEST.ASYNC True has no effect: set TEST.PERIOD to test in the training")
    metrics.write_run(text, cfg.dump(), summary.hyperparameters(cfg), test_loaders)


@contextlib.contextmanager
def _plot_at_end(output: Path) -> Iterator[None]:
    """Draws `losses.png` from `metrics.jsonl` when the block ends, also by an error."""
    try:
        yield
    finally:
        if distributed.rank() == 0:
            _plot(output)


def _plot(output: Path) -> None:
    """Draws the losses. Only logs an error, so that it does not hide why the run ends."""
    try:
        from dynamic_atss.viz.report import plot_run  # imports matplotlib

        plot_run(output)
    except Exception as error:
        logger.warning("losses.png is not drawn: %s", " ".join(str(error).split()))
