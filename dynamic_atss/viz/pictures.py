"""Pictures of a run's detections beside the ground truth."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dynamic_atss.data.dataset import DetectionDataset
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
    """Draws the first `count` images of a data set, each with its ground truth and its detections.

    Args:
        dataset: the data set that was tested.
        results: its `bbox.json`.
        folder: gets <image id>.png for each image, and overview.png with all of them.

    Returns:
        the path of the overview.
    """
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for result in json.loads(Path(results).read_text()):
        by_image[result["image_id"]].append(result)
    pictures: list[Tensor] = []
    for index, image_id in enumerate(dataset.image_ids[:count]):
        image, gt = dataset.load(index)
        found = _detections(by_image[image_id], dataset.category_ids)
        picture = detections_beside_truth(
            image,
            gt.boxes,
            gt.classes,
            found,
            dataset.class_names,
            score_threshold=score_threshold,
            short_side=320,
        )
        write_image(Path(folder) / f"{image_id}.png", picture)
        pictures.append(picture)
    overview = Path(folder) / "overview.png"
    write_image(overview, contact_sheet(pictures, columns=2))
    return overview


def _detections(results: list[dict[str, Any]], category_ids: list[int | None]) -> Detections:
    """COCO results (x, y, w, h with the legacy "+1") -> boxes xyxy in pixels of the file."""
    boxes = torch.tensor([r["bbox"] for r in results], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1
    classes = [category_ids.index(r["category_id"]) for r in results]
    scores = torch.tensor([r["score"] for r in results], dtype=torch.float32)
    return Detections(boxes, scores, torch.tensor(classes, dtype=torch.int64))
