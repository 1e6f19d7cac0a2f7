"""Makes small data sets with detections, and matches them by a plain loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.evaluation.ground_truth import TruthTable, load_truth
from dynamic_atss.evaluation.results import Table, result_table
from dynamic_atss.evaluation.voc import box_iou

Box = tuple[float, float, float, float]


def truth(image: int, category: int, box: Box, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [*box], **more}


def found(image: int, category: int, box: Box, score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [*box], "score": score}


def write_set(
    folder: Path,
    boxes: list[dict[str, Any]],
    results: list[dict[str, Any]],
    names: dict[int, str],
    images: tuple[int, ...] = (5, 9, 11),
) -> CocoDataset:
    """Writes a.json, images of 200 x 150 and out/bbox.json.

    Args:
        names: names of the categories.
    """
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)
    files = {i: f"{i} <b>é.png" for i in images}
    for file in files.values():
        cv2.imwrite(str(folder / "images" / file), pixels)
    content = {
        "images": [
            {"id": i, "file_name": file, "width": 200, "height": 150} for i, file in files.items()
        ],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [{"id": i, **box} for i, box in enumerate(boxes)],
    }
    (folder / "a.json").write_text(json.dumps(content))
    (folder / "out").mkdir()
    (folder / "out" / "bbox.json").write_text(json.dumps(results))
    return CocoDataset(folder / "a.json", folder / "images", training=False)


def random_set(folder: Path, seed: int, images: int = 24) -> CocoDataset:
    """Writes random boxes of three of four categories, some crowds, and detections.

    The detections lie near boxes and elsewhere, and their scores are distinct. The categories'
    ids are not in the order of the file.
    """
    rng = np.random.default_rng(seed)
    boxes, results = [], []
    for image in range(images):
        for _ in range(int(rng.integers(0, 5))):
            box = _box(rng)
            category, crowd = int(rng.integers(0, 3)), int(rng.random() < 0.3)
            boxes.append(truth(image, category, box, iscrowd=crowd))
            for _ in range(int(rng.integers(0, 4))):
                near = np.array(box) * rng.uniform(0.85, 1.15, 4)
                other = int(rng.integers(0, 4)) if rng.random() < 0.3 else category
                results.append(found(image, other, tuple(near.tolist()), rng.random()))
        for _ in range(3):
            results.append(found(image, int(rng.integers(0, 4)), _box(rng), rng.random()))
    names = {3: "c3", 1: "c1", 0: "c0", 2: "c2"}
    return write_set(folder, boxes, results, names, tuple(range(images)))


def _box(rng: np.random.Generator) -> Box:
    x, y = rng.uniform(0, 120), rng.uniform(0, 80)
    return (float(x), float(y), float(rng.uniform(8, 70)), float(rng.uniform(8, 60)))


def tables(dataset: CocoDataset) -> tuple[TruthTable, Table]:
    path = Path(dataset.annotations)
    rows = json.loads((path.parent / "out" / "bbox.json").read_text())
    return load_truth(path), result_table(rows, "results")


def matched(truth: TruthTable, table: Table) -> tuple[list[bool], list[bool], dict[int, float]]:
    """Matches as COCO does at IoU 0.5, in a loop.

    By descending score, each detection takes the free object of its image and category that it
    overlaps most. A detection without an object that lies on a crowd does not count.

    Returns:
        flags of the detections that count, flags of those that are right, and the score of each
        found object.
    """
    counted, right = [True] * len(table), [False] * len(table)
    taken: dict[int, float] = {}
    for d in np.argsort(-table[:, 5], kind="stable").tolist():
        best, at = 0.5, -1
        for t in range(len(truth)):
            same = truth.image_ids[t] == table[d, 0] and truth.category_ids[t] == table[d, 6]
            if not same or truth.crowd[t] or t in taken:
                continue
            iou = float(box_iou(table[d : d + 1, 1:5], truth.boxes[t : t + 1])[0])
            if iou >= best:
                best, at = iou, t
        if at >= 0:
            taken[at], right[d] = float(table[d, 5]), True
        else:
            counted[d] = not _on_crowd(truth, table[d])
    return counted, right, taken


def _on_crowd(truth: TruthTable, row: np.ndarray) -> bool:
    """Returns True if half of the detection's area lies on a crowd of its category."""
    x, y, w, h = row[1:5]
    for t in np.flatnonzero(truth.crowd):
        left, top, width, height = truth.boxes[t]
        over = max(0.0, min(x + w, left + width) - max(x, left))
        over *= max(0.0, min(y + h, top + height) - max(y, top))
        same = truth.image_ids[t] == row[0] and truth.category_ids[t] == row[6]
        if same and over / (w * h) >= 0.5:
            return True
    return False
