"""Test sets in the order of the model's classes, their scores, and what is expected of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss.data.dataset import DetectionDataset, TrainingSet
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.engine.evaluator import evaluate_dataset
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.weights import class_names as names_in_file
from dynamic_atss.weights import read_file, weight_file


def take_class_order(first: TrainingSet, loaders: dict[str, Loader]) -> None:
    """The test sets' classes in the model's order; results carry each set's own category ids."""
    for loader in loaders.values():
        loader.dataset.take_order_of(first)


def take_file_order(dataset: DetectionDataset, weight: str | Path) -> None:
    """The classes in the order of the weight file, if it tells the same names in another one."""
    content = read_file(weight_file(weight, None))
    names = names_in_file(content) if isinstance(content, dict) else []
    if len(set(names)) == len(names) and sorted(names) == sorted(dataset.class_names):
        dataset.reorder_classes(names)


def score(
    model: nn.Module,
    loaders: dict[str, Loader],
    device: torch.device,
    output: Path,
    max_dets: int,
) -> dict[str, CocoScores | None]:
    """Detections and scores of each test set, below `output`/inference; None on other ranks.

    max_dets: so many detections of an image and a category count
    """
    return {
        name: evaluate_dataset(
            model,
            loader,
            device,
            dataset=loader.dataset,
            output_dir=output / "inference" / name,
            max_dets=max_dets,
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
