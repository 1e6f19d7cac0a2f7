"""Puts test sets into the class order of the model, scores them, and checks expected results."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss.builders import build_head
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.diagnosis import LowScoreCauses
from dynamic_atss.engine.evaluator import defined_numbers, detect_dataset, report_scores
from dynamic_atss.engine.state import RunState
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.evaluation.scoring_task import ScoringTask
from dynamic_atss.files import METRICS_FILE, link_or_copy, read_metrics
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.weights import class_count, identify, names_of, read_file, weight_file

logger = logging.getLogger(__name__)


def take_class_order(class_names: Sequence[str], loaders: dict[str, Loader]) -> None:
    """Gives all test sets the class order of the model. Results keep the category ids of each set.

    Raises:
        UserError: a test set has a class that the model lacks.
    """
    for loader in loaders.values():
        loader.dataset.take_classes(class_names)


def classes_in_file(weight: str | Path, datasets: Sequence[DetectionDataset]) -> list[str]:
    """Gives the class names of a detector's file, in the order of its logits.

    Takes the names that the file holds or implies (`names_of`), else those of the first test set
    with the same number of classes.
    """
    path = weight_file(weight, None)
    try:
        source = identify(read_file(path), path)
    except UserError:  # not a detector's file: loading it gives a better message
        return datasets[0].class_names
    all_names = list(dict.fromkeys(name for data in datasets for name in data.class_names))
    count = class_count(source)
    first = next((data for data in datasets if len(data.class_names) == count), datasets[0])
    names = names_of(source, all_names)
    if not names and not _ascending(first.category_ids):
        logger.warning(
            "%s: holds no class names, and the categories of %s are not in the order of their ids: "
            "if the scores are low, list them in the order of the training set",
            path,
            first.annotations,
        )
    return names or first.class_names


def _ascending(ids: Sequence[int | None]) -> bool:
    known = [i for i in ids if i is not None]
    return known == sorted(known)


def score(
    model: nn.Module,
    loaders: dict[str, Loader],
    device: torch.device,
    output: Path,
    low_score_causes: LowScoreCauses,
    *,
    max_dets: int,
) -> dict[str, CocoScores | None]:
    """Tests the model on each test set, and gives the scores; None on ranks other than 0.

    Args:
        output: detections and scores go to <output>/inference/<name of the test set>.
        low_score_causes: finds causes to log if almost nothing is detected.
        max_dets: the number of detections for each image and category that are scored.
    """
    found: dict[str, CocoScores | None] = {}
    for name, loader in loaders.items():
        folder = output / "inference" / name
        task = detect(model, loader, device, name, folder, max_dets=max_dets)
        found[name] = None
        if task is not None:
            found[name] = task.run()
            report_scores(task, found[name], partial(low_score_causes.causes, loader=loader))
    return found


def detect(
    model: nn.Module,
    loader: Loader,
    device: torch.device,
    name: str,
    folder: Path,
    *,
    max_dets: int,
) -> ScoringTask | None:
    """Detects in a test set, and gives what has to be scored; None on ranks other than 0.

    Args:
        name: the name of the test set, for the log.
        folder: gets the results.
        max_dets: the number of detections for each image and category that are scored.
    """
    return detect_dataset(
        model,
        loader,
        device,
        dataset=loader.dataset,
        output_dir=folder,
        max_dets=max_dets,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        progress_label=f"test {name}",
    )


def low_score_causes_of_run(cfg: CfgNode, state: RunState) -> LowScoreCauses:
    """Prepares the diagnosis for the model of a run, from its averaged weights and its log."""

    def history() -> tuple[Detector | None, list[dict[str, Any]]]:
        trained = None if state.ema is None else state.model
        return trained, read_metrics(Path(cfg.OUTPUT_DIR) / METRICS_FILE)

    return LowScoreCauses(state.tested_model, _threshold_key(cfg), history)


def low_score_causes_of_file(cfg: CfgNode, model: Detector, weight: str | Path) -> LowScoreCauses:
    """Prepares the diagnosis for a model with the weights of a file.

    It uses the trained weights in the file and the log in its folder.
    """

    def history() -> tuple[Detector | None, list[dict[str, Any]]]:
        path = weight_file(weight, None)
        content = read_file(path)
        if not isinstance(content, dict) or "iteration" not in content:
            return None, []
        log = read_metrics(path.parent / METRICS_FILE)
        lines = [line for line in log if line["iteration"] <= content["iteration"]]
        return _with_weights(model, content.get("trained_model")), lines

    return LowScoreCauses(model, _threshold_key(cfg), history)


def _with_weights(model: Detector, weights: Any) -> Detector | None:
    if not weights:
        return None
    model = copy.deepcopy(model)
    model.load_state_dict(weights, strict=False)  # the run's rule may have had other parameters
    return model


def _threshold_key(cfg: CfgNode) -> str:
    return f"MODEL.{build_head(cfg).section}.INFERENCE_TH"


def take_results(output: Path, loaders: dict[str, Loader], part: str) -> None:
    """Links the result files from `part` of each test set's folder into the folder."""
    for name in loaders:
        folder = output / "inference" / name
        for path in (folder / part).glob("*.json"):
            link_or_copy(path, folder / path.name)


def check_metric(metric: str, loaders: dict[str, Loader]) -> None:
    """Raises UserError if the first test set does not have the metric of TEST.BEST_METRIC."""
    if not metric:
        return
    if not loaders:
        raise UserError(f"TEST.BEST_METRIC {metric!r}: DATASETS.TEST is empty; name a test set")
    name, loader = next(iter(loaders.items()))
    known = defined_numbers(loader.dataset)
    if metric not in known:
        has = f"will have {', '.join(known)}" if known else "has no boxes to score against"
        raise UserError(f"TEST.BEST_METRIC {metric!r}: {name} {has}")


def check_expected(cfg: CfgNode, scores: dict[str, CocoScores | None]) -> None:
    """Raises UserError if a score differs too much from its value in TEST.EXPECTED_RESULTS.

    The entries are ["bbox", metric, mean, deviation], as in the releases.
    """
    measured = {name: found.metrics for name, found in scores.items() if found}
    for name, metrics in measured.items():
        for _, metric, mean, deviation in cfg.TEST.EXPECTED_RESULTS:
            value = metrics[metric]
            if abs(value - mean) > cfg.TEST.EXPECTED_RESULTS_SIGMA_TOL * deviation:
                raise UserError(f"{name}: {metric} {value:.4f}, expected {mean} +- {deviation}")
