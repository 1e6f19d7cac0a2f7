"""Writes the files of finished runs without training them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dynamic_atss.config.defaults import default_config
from dynamic_atss.evaluation.scores import METRICS
from dynamic_atss.modeling.assignment_metrics import SIZES

ANNOTATIONS = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in (1, 2)],
    "categories": [{"id": 3, "name": "cell"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [4, 4, 20, 20], "area": 400},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [30, 30, 20, 20], "area": 400},
    ],
}
RESULTS = [
    {"image_id": 1, "category_id": 3, "bbox": [4, 4, 20, 20], "score": 0.9},
    {"image_id": 1, "category_id": 3, "bbox": [4, 4, 20, 10], "score": 0.6},
    {"image_id": 2, "category_id": 3, "bbox": [0, 0, 20, 20], "score": 0.2},
]


def write_data(folder: Path, boxes: int = 2) -> str:
    """Writes a data set in COCO's format with the first `boxes` objects. Gives its name."""
    import cv2
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for image in ANNOTATIONS["images"]:
        cv2.imwrite(str(folder / str(image["file_name"])), np.zeros((64, 64, 3), np.uint8))
    content = ANNOTATIONS | {"annotations": ANNOTATIONS["annotations"][:boxes]}
    (folder / "boxes.json").write_text(json.dumps(content))
    return f"coco:{folder / 'boxes.json'}:{folder}"


def write_run(
    folder: Path, data: str, seed: int = 0, ap: float = 0.3, settings: tuple[Any, ...] = ()
) -> Path:
    """Writes a complete run.

    Args:
        settings: keys and values in turn.
    """
    cfg = default_config()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (data,)
    cfg.SEED, cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER = seed, str(folder), 40
    for key, value in zip(settings[::2], settings[1::2], strict=True):
        section, _, name = key.rpartition(".")
        node = cfg
        for part in section.split("."):
            node = node[part]
        node[name] = value
    scores = folder / "inference" / "boxes"
    scores.mkdir(parents=True)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "model_final.pth").touch()
    found: dict[str, Any] = dict.fromkeys(METRICS, ap) | {"APl": -1.0}
    (scores / "coco_metrics.json").write_text(json.dumps(found | {"per_category": {"cell": ap}}))
    (scores / "bbox.json").write_text(json.dumps(RESULTS))
    lines = [*map(line, (20, 40)), {"iteration": 40, "dataset": "boxes", **found}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


def line(iteration: int) -> dict[str, Any]:
    """Gives a line of metrics.jsonl.

    An image has 2 boxes of 8 to 16 pixels with 6 positives, and 1 box of 16 to 32 pixels with 10.
    """
    sizes = {f"{name}_{size}": 0.0 for name in ("boxes", "positives") for size in SIZES}
    sizes |= {f"boxes_without_positive_{size}": 0.0 for size in SIZES}
    sizes |= {"boxes_8to16": 2.0, "positives_8to16": 6.0, "boxes_without_positive_8to16": 0.5}
    sizes |= {"boxes_16to32": 1.0, "positives_16to32": 10.0}
    values = {
        "positives": 16.0,
        "loss": 3.0,
        "loss_cls": 2.0,
        "loss_reg": 1.0,
        "iou_of_positives": iteration / 100,
    }
    return {"iteration": iteration, **values, **sizes, "time": 0.5, "max_mem_mb": 700, "lr": 0.01}
