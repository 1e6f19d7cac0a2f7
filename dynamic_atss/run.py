"""A whole run, from a configuration to scores: what tools/train_net.py and test_net.py call."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from dynamic_atss import builders, summary
from dynamic_atss.config.load import keys_without_effect
from dynamic_atss.config.record import tell_changes, write_config
from dynamic_atss.data.catalog import FROM_CATALOG
from dynamic_atss.data.dataset import TrainingSet
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed, launch
from dynamic_atss.engine.average import averaged_model
from dynamic_atss.engine.best import Best
from dynamic_atss.engine.checkpoint import Checkpointer, load_checkpoint, name_after, naming
from dynamic_atss.engine.diagnosis import Suspects
from dynamic_atss.engine.interrupt import EXIT_CODE
from dynamic_atss.engine.lines import Clock, Lines
from dynamic_atss.engine.logger import setup_logging
from dynamic_atss.engine.metrics import MetricsWriter
from dynamic_atss.engine.state import RunState
from dynamic_atss.engine.trainer import Trainer
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.scoring import (
    check_expected,
    check_metric,
    classes_in_file,
    score,
    suspects_of_file,
    suspects_of_run,
    take_class_order,
    take_results,
)
from dynamic_atss.weights import lacking_package, load_weights

logger = logging.getLogger(__name__)


@distributed.naming_the_lost()
def train(cfg: CfgNode, *, resume: bool = False, test: bool = True) -> int:
    """Trains, leaves everything in OUTPUT_DIR, and scores the final model unless `test` is False.

    Returns:
        the exit code: 0, or 143 if SIGTERM ended the run (after a checkpoint).

    Raises:
        UserError: for what the user can correct.
    """
    clock = Clock()
    device = _start(cfg)
    output = Path(cfg.OUTPUT_DIR)
    checkpointer = Checkpointer(output, cfg.SOLVER.KEEP_CHECKPOINTS)
    again = launch.began(output)
    resume = resume or again
    distributed.on_first(lambda: _refuse_to_overwrite(checkpointer, resume))
    _open_log(cfg, output)
    first = distributed.rank() == 0
    if again:
        logger.info(
            "Started anew by the launcher that began the run in %s: goes on with it", output
        )
    if first:
        launch.sign(output)
    if first and resume:  # before what the changes may bring about
        tell_changes(cfg, output)
    dataset = builders.build_train_dataset(cfg)
    test_loaders = builders.build_test_loaders(cfg) if test or cfg.TEST.PERIOD else {}
    builders.check_num_classes(cfg, dataset)
    take_class_order(dataset.class_names, test_loaders)
    distributed.on_first(lambda: check_metric(cfg.TEST.BEST_METRIC, test_loaders))
    _survey(cfg, dataset, test_loaders)
    state = _build_state(cfg, dataset.class_names, device)
    start = _initial_weights(cfg, state, checkpointer.latest() if resume else None)
    distributed.check_same(start, "--resume: the processes find different checkpoints")
    loader = builders.build_train_loader(cfg, dataset, start)
    if first:
        write_config(cfg, output, start)
    writer = MetricsWriter(output, start) if first else contextlib.nullcontext()
    with _plot_at_end(output), writer as metrics:
        if metrics is not None:
            _describe(cfg, state.model, dataset, test_loaders, device, start, metrics)
        tested = builders.build_tested(cfg, state.tested)
        lines = Lines(cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH)
        rest = test_loaders, device, cfg.SOLVER.MAX_ITER, checkpointer, metrics, lines
        most = cfg.TEST.DETECTIONS_PER_IMG
        records = _Records(state, tested, suspects_of_run(cfg, state), *rest, max_dets=most)
        ended = state.best.enough  # and is resumed: its last test was in another process
        finished = ended or _build_trainer(cfg, state, loader, device, start, records).train()
        if finished and test:
            with naming(name_after(cfg.SOLVER.MAX_ITER, cfg.SOLVER.MAX_ITER)):
                records.finish(again=ended)
    logger.info("%s after %s; results in %s", "Done" if finished else "Stopped", clock, output)
    distributed.shut_down()
    return 0 if finished else EXIT_CODE


def _describe(
    cfg: CfgNode,
    model: nn.Module,
    dataset: TrainingSet,
    test_loaders: dict[str, Loader],
    device: torch.device,
    start: int,
    metrics: MetricsWriter,
) -> None:
    """The block at the start of the log; TensorBoard gets it, too, and the configuration."""
    tested = [loader.dataset for loader in test_loaders.values()]
    text = summary.of_training(cfg, model, dataset, tested, device, start)
    logger.info("%s", text)
    metrics.write_run(text, cfg.dump(), summary.hyperparameters(cfg), test_loaders)


@contextlib.contextmanager
def _plot_at_end(output: Path) -> Iterator[None]:
    """`losses.png` of all that `metrics.jsonl` holds, however the run ends."""
    try:
        yield
    finally:
        if distributed.rank() == 0:
            from dynamic_atss.viz.report import plot_run  # imports matplotlib

            plot_run(output)


@dataclass(frozen=True)
class _Records:
    """What the trainer calls, and what it leaves in OUTPUT_DIR.

    tested: `state.tested` in the passes of the test · suspects: of a test that finds nothing ·
    checkpoints: of OUTPUT_DIR · metrics: on rank 0, else None · lines: of the log ·
    max_dets: detections of an image that are scored
    """

    state: RunState
    tested: nn.Module
    suspects: Suspects
    test_loaders: dict[str, Loader]
    device: torch.device
    max_iter: int
    checkpoints: Checkpointer
    metrics: MetricsWriter | None
    lines: Lines
    max_dets: int

    def save(self, iteration: int) -> None:
        content = self.state.capture(iteration)
        last = iteration if self.state.best.enough else self.max_iter
        if distributed.rank() == 0:
            self.checkpoints.save(name_after(iteration, last), content)
        distributed.saved(f"{name_after(iteration, last)}.pth")

    def log(self, line: dict[str, float]) -> None:
        if self.metrics is None:
            return
        values = {k: v for k, v in line.items() if k != "iteration"}
        self.metrics.write(int(line["iteration"]), values)
        logger.info("%s", self.lines.text(int(line["iteration"]), values))

    def evaluate(self, iteration: int) -> bool:
        """A test in training, in folders of its own. Whether the run has had enough."""
        self._test(iteration, f"{iteration:07d}")
        if self.state.best.enough:
            logger.info("the run ends at iteration %d: %s", iteration, self.state.best.reason())
        return self.state.best.enough

    def finish(self, *, again: bool) -> None:
        """The test after the last iteration.

        again: also if the run ended with a test, whose results could be taken.
        """
        best = self.state.best
        if not best.enough:
            self._test(self.max_iter)
        elif again:
            self._test(best.tested)
        elif distributed.rank() == 0:
            take_results(self.checkpoints.folder, self.test_loaders, f"{best.tested:07d}")

    def _test(self, iteration: int, folder: str = "") -> None:
        distributed.same_buffers(self.state.tested)  # rank 0's are those in the checkpoint
        where = self.device, self.checkpoints.folder
        found = score(
            *(self.tested, self.test_loaders, *where, self.suspects, folder), max_dets=self.max_dets
        )
        distributed.meet_again()  # the first process scores
        for name, scores in found.items():
            if self.metrics is not None and scores is not None:
                self.metrics.write_evaluation(iteration, name, scores)
            if self.metrics is not None and self.metrics.draws:
                self._draw(iteration, name, folder, self.metrics)
        self._watch(iteration, found)

    def _draw(self, iteration: int, name: str, folder: str, metrics: MetricsWriter) -> None:
        """A few pictures of a test, the same at each one."""
        from dynamic_atss.viz.pictures import sample_pictures  # imports matplotlib

        results = self.checkpoints.folder / "inference" / name / folder / "bbox.json"
        pictures = sample_pictures(self.test_loaders[name].dataset, results)
        metrics.write_pictures(iteration, name, pictures)

    def _watch(self, iteration: int, found: dict[str, CocoScores | None]) -> None:
        """Whether the test is the best, on every process by what rank 0 knows."""
        best = self.state.best
        if not best.metric:
            return
        scores = next(iter(found.values()))
        values = distributed.gather(scores and scores.numbers[best.metric])
        if best.add(iteration, values[0]) and distributed.rank() == 0:
            self.checkpoints.mark_best()
        logger.info("%s", best.summary())


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
        clip_grad_norm=cfg.SOLVER.CLIP_GRAD_NORM,
        log_period=cfg.SOLVER.LOG_PERIOD,
        checkpoint_period=cfg.SOLVER.CHECKPOINT_PERIOD,
        test_period=cfg.TEST.PERIOD,
    )


@distributed.naming_the_lost()
def test(cfg: CfgNode, *, weight_given: bool = True) -> int:
    """Scores a detector on each of DATASETS.TEST. Detections and scores go to
    OUTPUT_DIR/inference/<data set>.

    The detector is MODEL.WEIGHT if that was given on the command line (`weight_given`), else the
    last checkpoint of OUTPUT_DIR, else MODEL.WEIGHT of the YAML file.

    Returns:
        the exit code.

    Raises:
        UserError: for what the user can correct.
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
    _open_log(cfg, output)
    loaders = builders.build_test_loaders(cfg)
    if not loaders:
        raise UserError("DATASETS.TEST is empty; add DATASETS.TEST \"('name',)\"")
    names = classes_in_file(weight, [loader.dataset for loader in loaders.values()])
    take_class_order(names, loaders)
    builders.check_num_classes(cfg, next(iter(loaders.values())).dataset)
    _survey(cfg, None, loaders)
    model = builders.build_model(cfg, len(names)).to(device)
    report = load_weights(model, weight, class_names=names, allow_new_classes=False)
    if any(name.startswith("head.") for name in report.initial):
        raise UserError(f"{weight}: weights of a backbone only; give those of a whole detector")
    logger.info("%s", report.summary())
    tested = [loader.dataset for loader in loaders.values()]
    logger.info("%s", summary.of_test(cfg, model, tested, device))
    suspects = suspects_of_file(cfg, model, weight)
    tested_model = builders.build_tested(cfg, model)
    most = cfg.TEST.DETECTIONS_PER_IMG
    scores = score(tested_model, loaders, device, output, suspects, max_dets=most)
    check_expected(cfg, scores)
    distributed.shut_down()
    return 0


def _start(cfg: CfgNode) -> torch.device:
    builders.check_config(cfg)
    torch.manual_seed(cfg.SEED)
    return distributed.init_distributed(cfg.MODEL.DEVICE, cfg.SOLVER.TIMEOUT)


def _open_log(cfg: CfgNode, output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"OUTPUT_DIR {output}: cannot be made ({error.strerror}); choose another folder"
        ) from None
    if not os.access(output, os.W_OK):
        raise UserError(f"OUTPUT_DIR {output}: cannot be written; choose another folder")
    setup_logging(output, distributed.rank())
    unused = keys_without_effect(cfg)
    if unused:
        logger.info("Accepted without effect (keys of two-stage models): %s", ", ".join(unused))
    if "PATHS_CATALOG" in unused:
        logger.warning("PATHS_CATALOG: its code is not read; an entry of it is %s", FROM_CATALOG)


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
    average = averaged_model(model, cfg.SOLVER.EMA_DECAY, ramp=cfg.SOLVER.EMA_RAMP)
    best = Best(cfg.TEST.BEST_METRIC, cfg.TEST.PATIENCE)
    return RunState(model, optimizer, average, class_names, best=best)


def _initial_weights(cfg: CfgNode, state: RunState, checkpoint: Path | None) -> int:
    """Order matters: a run to resume before the weights to start from. Returns the iteration."""
    if checkpoint is not None:
        start = state.restore(load_checkpoint(checkpoint))
        distributed.saved(checkpoint.name)
        logger.info("Resuming from %s after iteration %d", checkpoint, start)
        return start
    lacking = lacking_package(cfg.MODEL.WEIGHT) if cfg.MODEL.WEIGHT_OPTIONAL else ""
    if lacking:
        logger.warning("weights: none, from scratch, which needs many more iterations: %s", lacking)
    elif cfg.MODEL.WEIGHT:
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
