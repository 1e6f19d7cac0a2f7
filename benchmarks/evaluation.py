"""Compares COCO's evaluation with pycocotools and faster-coco-eval, from detections in memory.

    python benchmarks/evaluation.py [--images 5000] [--detections 100] [--categories 80]

Images are synthetic and have 7 boxes each. Half of the detections have the category of a box near
them. All start with tensors of boxes, scores and classes of every image, and with parsed
annotations. Ours takes batches like the evaluator. The peers get COCO results, converted image by
image like in the releases, which counts. faster-coco-eval is optional. The 12 numbers must agree to
1e-12. The limit is sorting the scores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, main, measure

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.evaluation.coco import evaluate_coco
from dynamic_atss.evaluation.detection_table import detection_table
from dynamic_atss.evaluation.ground_truth import TruthTable, load_truth
from dynamic_atss.types import Detections

SIZE, FILED = (800, 1066), (480, 640)
BATCH = 16
BOXES = 7
Found = dict[int, Detections]


def synthetic(images: int, detections: int, categories: int) -> tuple[dict[str, Any], Found]:
    """Makes the content of an annotation file, and detections in pixels of the resized image."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(8), np.log(250), (images, BOXES, 2)))
    boxes = np.concatenate([rng.uniform(0, 380, (images, BOXES, 2)), sides], 2)
    classes = rng.integers(0, categories, (images, BOXES))
    pick = rng.integers(0, BOXES, (images, detections))
    rows = np.arange(images)[:, None]
    near = boxes[rows, pick]
    near += rng.normal(0, 0.1, near.shape) * near[..., [2, 3, 2, 3]]
    corners = np.concatenate([near[..., :2], near[..., :2] + np.abs(near[..., 2:])], 2)
    corners *= np.tile([SIZE[1] / FILED[1], SIZE[0] / FILED[0]], 2)
    guess = rng.integers(0, categories, (images, detections))
    of_box = rng.random((images, detections)) < 0.5
    tensors = (
        torch.from_numpy(corners).float(),
        torch.from_numpy(rng.random((images, detections))).float(),
        torch.from_numpy(np.where(of_box, classes[rows, pick], guess)),
    )
    found = {i: Detections(*(t[i] for t in tensors), BoxConvention.EXACT) for i in range(images)}
    annotations = [
        {"image_id": i, "category_id": c + 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
        for i in range(images)
        for c, b in zip(classes[i].tolist(), boxes[i].tolist(), strict=True)
    ]
    content = {
        "images": [{"id": i, "height": FILED[0], "width": FILED[1]} for i in range(images)],
        "categories": [{"id": c, "name": str(c)} for c in range(1, categories + 1)],
        "annotations": [{"id": i, **a} for i, a in enumerate(annotations, 1)],
    }
    return content, found


def ours(truth: TruthTable, found: Found, scorer: str = "auto") -> list[float]:
    category_ids = [category["id"] for category in truth.categories]
    ids, tables = list(found), []
    for first in range(0, len(ids), BATCH):
        batch = ids[first : first + BATCH]
        tables.append(
            detection_table(
                {i: found[i] for i in batch},
                sizes=dict.fromkeys(batch, SIZE),
                original_sizes=dict.fromkeys(batch, FILED),
                category_ids=category_ids,
            )
        )
    scores = evaluate_coco(truth, np.concatenate(tables), scorer=scorer)
    assert scores is not None
    return list(scores.metrics.values())


def release_results(found: Found) -> list[dict[str, Any]]:
    results = []
    ratios = torch.tensor([FILED[1] / SIZE[1], FILED[0] / SIZE[0]]).repeat(2)
    for i, image in found.items():
        x1, y1, x2, y2 = (image.boxes * ratios).unbind(1)
        boxes = torch.stack((x1, y1, x2 - x1, y2 - y1), 1).tolist()
        columns = boxes, image.scores.tolist(), image.classes.tolist()
        results += [
            {"image_id": i, "category_id": c + 1, "bbox": box, "score": score}
            for box, score, c in zip(*columns, strict=True)
        ]
    return results


def peer(truth: Any, found: Found, evaluator: type) -> list[float]:
    """Scores by the interface of pycocotools, which faster-coco-eval shares."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluator(truth, truth.loadRes(release_results(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats[:12])


def scorers() -> dict[str, tuple[type, type] | None]:
    """Returns (ground truth class, evaluator class) of each peer; None if not installed."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    try:
        from faster_coco_eval import COCO as FasterCOCO
        from faster_coco_eval import COCOeval_faster
    except ImportError:
        return {"pycocotools": (COCO, COCOeval), "faster-coco-eval": None}
    return {"pycocotools": (COCO, COCOeval), "faster-coco-eval": (FasterCOCO, COCOeval_faster)}


def compare(mine: list[float], theirs: list[float]) -> str:
    """Says what was compared. Raises AssertionError if the 12 numbers differ."""
    differ = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
    assert differ < 1e-12, f"the 12 numbers differ by {differ}: {mine}, {theirs}"
    return "the 12 numbers" + (f" but for {differ:.0e}" if differ else " to the last bit")


def case_rows(
    images: int, detections: int, categories: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    content, found = synthetic(images, detections, categories)
    case = f"{images} images x {detections} detections, {categories} categories"
    scores = torch.stack([image.scores for image in found.values()]).flatten().numpy()
    peers: dict[str, Callable[[], list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "annotations.json"
        path.write_text(json.dumps(content))
        truth = load_truth(path)
        known = scorers()
        for name, classes in known.items():
            if classes is not None:
                coco, evaluator = classes[0](str(path)), classes[1]
                peers[name] = lambda coco=coco, evaluator=evaluator: peer(coco, found, evaluator)
    mine = ours(truth, found)
    kept: dict[str, list[float]] = {}
    calls = {name: lambda name=name: kept.update({name: peers[name]()}) for name in peers}
    rows = measure(
        *("evaluation", case, lambda: ours(truth, found), calls, args),
        limit="sorting the scores",
        at_limit=lambda: np.argsort(-scores, kind="stable"),
        memory=False,
        device="host",
    )
    for row in rows:
        row["same"] = compare(mine, kept[row["peer"]])
    absent = [name for name, classes in known.items() if classes is None]
    return rows + [
        Row("evaluation", case, peer=name, note="not installed", device="host").to_dict()
        for name in absent
    ]


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.quick:
        args.images = min(args.images, 200)
    return case_rows(args.images, args.detections, args.categories, args)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--categories", type=int, default=80)


if __name__ == "__main__":
    main(__doc__, rows, arguments)
