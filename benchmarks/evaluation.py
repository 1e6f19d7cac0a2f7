"""COCO scoring time, hotcoco beside pycocotools, on synthetic images.

    python benchmarks/evaluation.py [--images 5000] [--detections 100] [--categories 80]

Both scorers get the same columns; the time is that of `evaluate_coco` without reading the
annotation file. The scores must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from dynamic_atss.evaluation.coco import evaluate_coco
from dynamic_atss.evaluation.ground_truth import load_truth


def synthetic(images: int, detections: int, categories: int, path: Path) -> list[dict]:
    """Write an annotation file with 7 boxes an image; give results, some of them near a box."""
    rng = np.random.default_rng(0)
    sides = np.exp(rng.uniform(np.log(8), np.log(250), (images, 7, 2)))
    boxes = np.concatenate([rng.uniform(0, 380, (images, 7, 2)), sides], 2)
    classes = rng.integers(1, categories + 1, (images, 7))
    pick = rng.integers(0, 7, (images, detections))
    rows = np.arange(images)[:, None]
    found = boxes[rows, pick]
    found += rng.normal(0, 0.1, found.shape) * found[..., [2, 3, 2, 3]]
    found[..., 2:] = np.abs(found[..., 2:])
    scores = rng.random((images, detections))
    guess = rng.integers(1, categories + 1, (images, detections))
    found_classes = np.where(rng.random((images, detections)) < 0.5, classes[rows, pick], guess)

    def entries(box: np.ndarray, category: np.ndarray, i: int) -> list[dict]:
        pairs = zip(box[i].tolist(), category[i].tolist(), strict=True)
        return [{"image_id": i, "category_id": c, "bbox": b} for b, c in pairs]

    annotations = [a for i in range(images) for a in entries(boxes, classes, i)]
    results = [r for i in range(images) for r in entries(found, found_classes, i)]
    for result, score in zip(results, scores.ravel().tolist(), strict=True):
        result["score"] = score
    content = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": c, "name": str(c)} for c in range(1, categories + 1)],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--categories", type=int, default=80)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        results = synthetic(args.images, args.detections, args.categories, path)
        begin = time.perf_counter()
        load_truth(path)
        reading = time.perf_counter() - begin
        seconds, scores = {}, {}
        for scorer in ("hotcoco", "pycocotools"):
            begin = time.perf_counter()
            scores[scorer] = evaluate_coco(path, results, scorer=scorer)
            seconds[scorer] = time.perf_counter() - begin - reading
    for scorer, time_taken in seconds.items():
        print(f"{scorer:>12} {time_taken:8.2f} s   AP {scores[scorer].metrics['AP']:.6f}")
    print(f"{'ratio':>12} {seconds['pycocotools'] / seconds['hotcoco']:8.1f}")
    print(f"equal to the last bit: {scores['hotcoco'] == scores['pycocotools']}")


if __name__ == "__main__":
    main()
