"""Measures the share of boxes with a positive, by size, for every rule alone and with AT_LEAST_ONE.

    python benchmarks/coverage.py ANNOTATIONS.json [ANNOTATIONS.json ...] [--short 800]
        [--limit 1333]

The boxes come from COCO files, in images resized as for training. The size of a box is the square
root of its area in pixels of the resized image. No network is run: rules that read predictions get
those of an untrained network, that is each anchor with scores of 0.01. Rules that need no sizes of
priors get the same anchors.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import read_annotations
from dynamic_atss.data.transforms import resized
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions, Priors

STRIDES = (8, 16, 32, 64, 128)
ANCHORS = AnchorGenerator(STRIDES, [8.0 * stride for stride in STRIDES])
EDGES = (0, 8, 16, 32, math.inf)
NAMES = ("< 8 px", "8-16", "16-32", "> 32", "all")


def scenes(path: Path, short: int, limit: int) -> Iterator[tuple[Priors, GroundTruth, Predictions]]:
    """Yields the arguments of an assigner for each image."""
    read = read_annotations(path, need_boxes=True)
    classes = len(read.class_names)
    for i, (height, width) in enumerate(read.sizes.tolist()):
        here = (read.image_index == i) & ~read.crowd & (read.xywh[:, 2:] > 1).all(1)
        high, wide = resized(height, width, short, limit)
        scale = np.array([wide / width, high / height])
        corner, extent = read.xywh[here, :2], np.maximum(read.xywh[here, 2:] - 1, 0)
        boxes = np.concatenate([corner * scale, (corner + extent) * scale], 1)
        count = int(here.sum())
        gt = GroundTruth(
            torch.from_numpy(boxes).float(),
            torch.from_numpy(read.classes[here]).long(),
            torch.zeros(count, dtype=torch.int64),
        )
        priors = ANCHORS([(-(-high // s), -(-wide // s)) for s in STRIDES], torch.device("cpu"))
        logits = torch.full((1, len(priors), classes), -math.log(99))
        yield priors, gt, Predictions(priors.boxes[None], logits)


def learnt(rule: Assigner, scene: tuple[Priors, GroundTruth, Predictions]) -> Tensor:
    """Counts the positives of each box (T,)."""
    index = rule(*scene).gt_index.flatten()
    return torch.bincount(index[index >= 0], minlength=len(scene[1]))


def by_size(values: Tensor, side: Tensor) -> list[float]:
    """Returns the mean over the boxes of each size, and over all."""
    parts = [values[(side >= a) & (side < b)] for a, b in pairwise(EDGES)]
    return [part.double().mean().item() for part in (*parts, values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path, nargs="+")
    parser.add_argument("--short", type=int, default=800)
    parser.add_argument("--limit", type=int, default=1333)
    args = parser.parse_args()
    images = [s for path in args.annotations for s in scenes(path, args.short, args.limit)]
    side = BoxConvention.LEGACY.area(torch.cat([gt.boxes for _, gt, _ in images])).sqrt()
    counts = torch.histogram(side, torch.tensor(EDGES)).hist.long().tolist()
    print(f"{len(images)} images, short side {args.short}; boxes by size:")
    print(", ".join(f"{n} {name}" for name, n in zip(NAMES, [*counts, len(side)], strict=True)))
    print("\nshare of boxes with a positive (positives per box)")
    print(f"| rule | {' | '.join(NAMES)} | seconds |\n|---|{'---:|' * (len(NAMES) + 1)}")
    for name, make in ASSIGNERS.items():
        for title, rule in ((name, make()), (f"{name}, at least one", AtLeastOne(make()))):
            begin = time.perf_counter()
            found = torch.cat([learnt(rule, scene) for scene in images])
            seconds = time.perf_counter() - begin
            means = zip(by_size((found > 0) * 100.0, side), by_size(found, side), strict=True)
            cells = " | ".join(f"{share:.1f} % ({mean:.1f})" for share, mean in means)
            print(f"| {title} | {cells} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
