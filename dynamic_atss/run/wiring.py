"""Builds the parts of a training from the configuration."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.config.record import usage
from dynamic_atss.data.loader import Loader
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.engine import distributed
from dynamic_atss.engine.best import Best
from dynamic_atss.engine.checkpoint import Checkpointer
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.reactions import Reaction, Rewind, Skip, Stop
from dynamic_atss.engine.state import RunState
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.engine.weight_average import averaged_model
from dynamic_atss.errors import UserError
from dynamic_atss.run.assignment_pictures import AssignmentPictures
from dynamic_atss.run.records import Records
from dynamic_atss.run.tester import Tester
from dynamic_atss.scoring import low_score_causes_of_run
from dynamic_atss.weights import lacking_package, load_weights

logger = logging.getLogger(__name__)


def build_state(cfg: CfgNode, dataset: TrainingSet, device: torch.device) -> RunState:
    """Builds the model, the optimizer and the other parts of a run that change."""
    names = dataset.class_names
    model = builders.build_model(cfg, len(names)).to(device)
    optimizer = builders.build_optimizer(cfg, model)
    average = averaged_model(model, cfg.SOLVER.EMA_DECAY, ramp=cfg.SOLVER.EMA_RAMP)
    best = Best(cfg.TEST.BEST_METRIC, cfg.TEST.PATIENCE)
    return RunState(model, optimizer, average, names, best=best, usage=usage(cfg, dataset.parts))


def initial_weights(
    cfg: CfgNode, state: RunState, checkpoints: Checkpointer, *, resume: bool
) -> int:
    """Resumes the run if there is a checkpoint, else loads MODEL.WEIGHT. Gives the iteration."""
    if resume:
        start = resume_newest(state, checkpoints)
        if start is not None:
            return start
        logger.info("--resume: %s holds no checkpoint: starts at iteration 0", checkpoints.folder)
    lacking = lacking_package(cfg.MODEL.WEIGHT) if cfg.MODEL.WEIGHT_OPTIONAL else ""
    if lacking:
        logger.warning("weights: none; from scratch needs many more iterations: %s", lacking)
    elif cfg.MODEL.WEIGHT:
        report = load_weights(state.model, cfg.MODEL.WEIGHT, class_names=state.class_names)
        logger.info("%s", report.summary())
        if state.ema is not None:
            state.ema.module.load_state_dict(state.model.state_dict())
    else:
        logger.info("weights: none given, all at their initial values")
    return 0


def resume_newest(state: RunState, checkpoints: Checkpointer) -> int | None:
    """Restores the newest complete checkpoint, and gives its iteration; None if there is none.

    Raises:
        UserError: all checkpoints are damaged, or the newest does not fit the configuration.
    """
    path = distributed.on_rank_0(checkpoints.find)
    if path is None:
        return None
    start = state.restore(checkpoints.load(path))
    distributed.note_saved(path.name)
    if distributed.rank() == 0:
        checkpoints.set_current(path, start)
    logger.info("Resuming from %s after iteration %d", path, start)
    return start


def _parallel(model: nn.Module, device: torch.device) -> nn.Module:
    if distributed.world_size() == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def build_tester(
    cfg: CfgNode,
    state: RunState,
    loaders: dict[str, Loader],
    device: torch.device,
    checkpoints: Checkpointer,
    metrics: MetricsWriter | None,
) -> Tester:
    """Builds what tests the model of a run.

    Args:
        loaders: the loader of each test set, by its name.
        metrics: writes the numbers on rank 0; None on other ranks.
    """
    return Tester(
        state=state,
        model=builders.build_test_model(cfg, state.tested_model),
        low_score_causes=low_score_causes_of_run(cfg, state),
        loaders=loaders,
        device=device,
        checkpoints=checkpoints,
        metrics=metrics,
        max_dets=cfg.TEST.DETECTIONS_PER_IMG,
        in_background=cfg.TEST.ASYNC,
        timeout=cfg.SOLVER.TIMEOUT,
    )


def build_trainer(
    cfg: CfgNode, dataset: TrainingSet, loader: Loader, start: int, records: Records
) -> Trainer:
    """Builds the trainer of a run.

    Args:
        loader: gives the batches after iteration `start`.
        start: the iteration after which the run continues.
    """
    state, device = records.state, records.tester.device
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
        averages=state.averages,
        ema=state.ema,
        clip_grad_norm=cfg.SOLVER.CLIP_GRAD_NORM,
        log_period=cfg.SOLVER.LOG_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        test_period=cfg.TEST.PERIOD,
        non_finite=state.non_finite,
        reaction=_reaction(cfg, records, dataset),
        largest_logit=state.model.largest_logit,
        step_context=AssignmentPictures(
            cfg.SOLVER.PICTURE_PERIOD,
            records.metrics,
            state.class_names,
            state.averages,
        ),
        may_save=records.tester.scores_in_time,
    )


def _reaction(cfg: CfgNode, records: Records, dataset: TrainingSet) -> Reaction:
    """Builds the reaction to numbers that are not finite (SOLVER.NOT_FINITE)."""
    state, limit = records.state, cfg.SOLVER.NOT_FINITE_LIMIT

    def go_back() -> tuple[int, Loader]:
        start = resume_newest(state, records.checkpoints)
        if start is None:
            raise UserError(
                "SOLVER.NOT_FINITE rewind: there is no checkpoint yet to go back to: lower "
                "SOLVER.CHECKPOINT_PERIOD or SOLVER.BASE_LR"
            )
        records.rewind(start)
        return start, builders.build_train_loader(cfg, dataset, start)

    if cfg.SOLVER.NOT_FINITE == "skip":
        return Skip(state.model, state.non_finite, limit)
    if cfg.SOLVER.NOT_FINITE == "rewind":
        return Rewind(go_back, state.non_finite, limit, cfg.SOLVER.NOT_FINITE_LR_FACTOR)
    return Stop()
