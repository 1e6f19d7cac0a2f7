"""Draws a run's detections next to the ground truth."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.data.annotations import read_json
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.image import resize
from dynamic_atss.evaluation.results import Table, as_results
from dynamic_atss.types import Detections
from dynamic_atss.viz.draw import contact_sheet, detections_beside_truth, write_image


def draw_results(
    dataset: DetectionDataset,
    results: str | Path,
    folder: str | Path,
    *,
    count: int = 12,
    score_threshold: float = 0.6,
) -> Path:
    """Draws the first `count` images of a data set with ground truth and detections.

    Args:
        dataset: the data set that was tested.
        results: its `bbox.json`.
        folder: gets <image id>.png of each image, and overview.png with all images.

    Returns the path of the overview.
    """
    found = _by_image(read_json(Path(results)))
    pictures: list[Tensor] = []
    for index, image_id in enumerate(dataset.image_ids[:count]):
        picture = _beside_truth(dataset, index, found[image_id], score_threshold)
        write_image(Path(folder) / f"{image_id}.png", picture)
        pictures.append(picture)
    overview = Path(folder) / "overview.png"
    write_image(overview, contact_sheet(pictures, columns=2))
    return overview


def sample_pictures(
    dataset: DetectionDataset,
    table: Table,
    *,
    count: int = 4,
    long_side: int = 640,
    score_threshold: float = 0.3,
) -> dict[str, Tensor]:
    """Draws ground truth and detections of a few images, the same ones at every test.

    The images are spread evenly over those with boxes, or over all if none has boxes.

    Args:
        dataset: the data set that was tested.
        table: its detections, see `evaluation.results`.
        long_side: larger images are reduced to this long side in pixels.

    Returns image id -> picture (3, H, W) uint8.
    """
    with_boxes = np.unique(dataset.classes_by_image()[0])
    candidates = with_boxes if len(with_boxes) else np.arange(len(dataset))
    places = np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int)
    pictures = {}
    for index in candidates[places].tolist():
        image_id = dataset.image_ids[index]
        found = as_results(table[table[:, 0] == image_id])
        picture = _beside_truth(dataset, index, found, score_threshold, long_side)
        pictures[str(image_id)] = picture
    return pictures


def _by_image(results: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        by_image[result["image_id"]].append(result)
    return by_image


def _beside_truth(
    dataset: DetectionDataset,
    index: int,
    results: list[dict[str, Any]],
    score_threshold: float,
    long_side: int | None = None,
) -> Tensor:
    """Draws one image, reduced to `long_side` if it is larger."""
    image, gt = dataset.load(index)
    gt, found = gt.objects, _detections(results, dataset.category_ids)
    ratio = min(1.0, (long_side or math.inf) / max(image.shape[1:]))
    if ratio < 1:
        image = resize(image, *(max(1, round(side * ratio)) for side in image.shape[1:]))
    return detections_beside_truth(
        image,
        gt.boxes * ratio,
        gt.classes,
        replace(found, boxes=found.boxes * ratio),
        dataset.class_names,
        score_threshold=score_threshold,
        short_side=320,
    )


def _detections(results: list[dict[str, Any]], category_ids: list[int | None]) -> Detections:
    """Converts COCO results (x y w h with the legacy "+1") to xyxy boxes in pixels of the file."""
    boxes = torch.tensor([r["bbox"] for r in results], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    classes = [category_ids.index(r["category_id"]) for r in results]
    scores = torch.tensor([r["score"] for r in results], dtype=torch.float32)
    return Detections(boxes, scores, torch.tensor(classes, dtype=torch.int64))
