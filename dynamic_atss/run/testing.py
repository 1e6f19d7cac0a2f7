"""Scores a detector, for the command `test`."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss import builders, summary
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.checkpoint import Checkpointer
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.run.reporting import build_loaders, check_possible, write_reports
from dynamic_atss.run.start import begin, log_unused_keys, opened_folder, survey
from dynamic_atss.scoring import (
    check_expected,
    classes_in_file,
    low_score_causes_of_file,
    score,
    take_class_order,
)
from dynamic_atss.weights import load_weights

logger = logging.getLogger(__name__)


@distributed.naming_lost_process()
def test(
    cfg: CfgNode, *, weight_given: bool = True, run: Path | None = None, report: bool = False
) -> int:
    """Scores a detector on each set of DATASETS.TEST.

    Writes detections and scores to OUTPUT_DIR/inference/<data set>.

    Args:
        weight_given: True if the command line gave MODEL.WEIGHT, which is tested. Otherwise the
            last checkpoint of `run` is tested or, without one, MODEL.WEIGHT of the YAML file.
        run: the folder of a run; None: OUTPUT_DIR.
        report: True writes a page about the errors, too.

    Returns:
        the exit code.

    Raises:
        UserError: a mistake that the user can correct.
    """
    if report:
        check_possible()
    device = begin(cfg)
    weight = _weight(cfg, weight_given, Path(cfg.OUTPUT_DIR) if run is None else run)
    with opened_folder(Path(cfg.OUTPUT_DIR)):
        log_unused_keys(cfg)
        loaders = build_loaders(cfg)
        scores = _scores(cfg, weight, loaders, device)
        if report:
            write_reports(cfg, loaders)
        check_expected(cfg, scores)
    distributed.shut_down()
    return 0


def _weight(cfg: CfgNode, given: bool, run: Path) -> str | Path:
    """Gives MODEL.WEIGHT if it is given, else the last checkpoint of the run, if there is one.

    Raises:
        UserError: there is neither.
    """
    find = Checkpointer(run).find
    weight = None if given else distributed.on_rank_0(find)
    weight = weight or cfg.MODEL.WEIGHT
    if not weight:
        raise UserError(
            f"MODEL.WEIGHT: nothing to test, and OUTPUT_DIR {run} holds no checkpoint; "
            "add MODEL.WEIGHT <file.pth>"
        )
    return weight


def _scores(
    cfg: CfgNode, weight: str | Path, loaders: dict[str, Loader], device: torch.device
) -> dict[str, CocoScores | None]:
    """Detects with the weights in each data set, and gives the scores by data set."""
    names = classes_in_file(weight, [loader.dataset for loader in loaders.values()])
    take_class_order(names, loaders)
    builders.check_num_classes(cfg, next(iter(loaders.values())).dataset)
    survey(cfg, None, loaders)
    model = builders.build_model(cfg, len(names)).to(device)
    loaded = load_weights(model, weight, class_names=names, allow_new_classes=False)
    if any(name.startswith("head.") for name in loaded.initial):
        raise UserError(f"{weight}: weights of a backbone only; give those of a complete detector")
    logger.info("%s", loaded.summary())
    test_sets = [loader.dataset for loader in loaders.values()]
    logger.info("%s", summary.of_test(cfg, model, test_sets, device))
    return score(
        builders.build_test_model(cfg, model),
        loaders,
        device,
        Path(cfg.OUTPUT_DIR),
        low_score_causes_of_file(cfg, model, weight),
        max_dets=cfg.TEST.DETECTIONS_PER_IMG,
    )
