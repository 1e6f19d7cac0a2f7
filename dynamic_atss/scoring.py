"""Test sets in the order of the model's classes, their scores, and what is expected of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.evaluator import evaluate_dataset
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.weights import class_count, identify, names_of, read_file, weight_file

logger = logging.getLogger(__name__)


def take_class_order(class_names: Sequence[str], loaders: dict[str, Loader]) -> None:
    """The test sets' classes as those of the model; results carry each set's own category ids.

    Raises UserError: a test set has a class that the model lacks.
    """
    for loader in loaders.values():
        loader.dataset.take_classes(class_names)


def classes_in_file(weight: str | Path, datasets: Sequence[DetectionDataset]) -> list[str]:
    """The classes of a detector's file in the order of its logits: by the names that it tells or
    that are certain (`names_of`), else those of the first test set with as many."""
    path = weight_file(weight, None)
    try:
        source = identify(read_file(path), path)
    except UserError:  # no detector's file, which its loading tells better
        return datasets[0].class_names
    all_names = list(dict.fromkeys(name for data in datasets for name in data.class_names))
    count = class_count(source)
    first = next((data for data in datasets if len(data.class_names) == count), datasets[0])
    names = names_of(source, all_names)
    if not names and not _ascending(first.category_ids):
        logger.warning(
            "%s: tells no class names, and %s lists its categories in another order than their "
            "ids: if the scores are low, list them as the training's file did",
            *(path, first.annotations),
        )
    return names or first.class_names


def _ascending(ids: Sequence[int | None]) -> bool:
    known = [i for i in ids if i is not None]
    return known == sorted(known)


def score(
    model: nn.Module, loaders: dict[str, Loader], device: torch.device, output: Path
) -> dict[str, CocoScores | None]:
    """Detections and scores of each test set, below `output`/inference; None on other ranks."""
    return {
        name: evaluate_dataset(
            model,
            loader,
            device,
            dataset=loader.dataset,
            output_dir=output / "inference" / name,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            progress_label=f"test {name}",
        )
        for name, loader in loaders.items()
    }


def check_expected(cfg: CfgNode, scores: dict[str, CocoScores | None]) -> None:
    """TEST.EXPECTED_RESULTS: [["bbox", metric, mean, deviation], ...], as in the releases."""
    measured = {name: found.metrics for name, found in scores.items() if found}
    for name, metrics in measured.items():
        for _, metric, mean, deviation in cfg.TEST.EXPECTED_RESULTS:
            value = metrics[metric]
            if abs(value - mean) > cfg.TEST.EXPECTED_RESULTS_SIGMA_TOL * deviation:
                raise UserError(f"{name}: {metric} {value:.4f}, expected {mean} +- {deviation}")
