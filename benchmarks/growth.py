"""Measures how the cost of each stage grows with boxes, priors, classes, batch and processes.

    python benchmarks/growth.py [--device cuda] [--threads 2] [--quick]

One size changes at a time, and the calls of its values alternate. The note has the growth of the
size and of the time since the previous row: "x 10: x 4" means ten times the size and four times the
time. More loading processes share the same work. Each training process does the same work, with one
thread on a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import assignment
import evaluation
import focal
import image_loading
import nms
import torch
from common import Call, Row, alternate, main, peak_memory

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.loader import build_test_loader
from dynamic_atss.data.transforms import Resize
from dynamic_atss.evaluation.ground_truth import load_truth
from dynamic_atss.types import to_device

FOLDER = Path(__file__).resolve().parent
Rows = list[dict[str, Any]]


def sweep(
    stage: str,
    unit: str,
    values: Sequence[int],
    make: Callable[[int], Call],
    args: argparse.Namespace,
    *,
    host: bool = False,
    memory: bool = True,
) -> Rows:
    """Makes a row for each value of a size.

    Args:
        host: nothing runs on a GPU or in PyTorch's memory.
        memory: all memory is PyTorch's.
    """
    if host and args.device == "cuda":
        return []
    print(f"growth: {stage}, {unit}", file=sys.stderr, flush=True)
    values = values[:2] if args.quick else values
    calls = [make(value) for value in values]
    seconds = alternate(calls, args.seconds, args.device)
    rows = []
    for i, (value, call) in enumerate(zip(values, calls, strict=True)):
        more = f"x {value / values[i - 1]:.3g}: x {seconds[i] / seconds[i - 1]:.2f}" if i else ""
        counted = memory and not host
        megabytes = peak_memory(call, args.device) / 1e6 if counted else None
        device = "host" if host else args.device
        row = Row("growth", f"{stage}: {value} {unit}", note=more, device=device)
        rows.append({**row.to_dict(), "ours_s": seconds[i], "ours_mb": megabytes})
    return rows


def assign(boxes: int, batch: int, scale: int, args: argparse.Namespace) -> Call:
    """Makes a call of Dynamic ATSS.

    Args:
        boxes: boxes per image.
        batch: number of images.
        scale: factor of the sides of 800 x 1344, in quarters.
    """
    sizes = [(-(-h * scale // 4), -(-w * scale // 4)) for h, w in assignment.SIZES]
    inputs = [to_device(x, args.device) for x in assignment.scene(boxes, batch, sizes)]
    rule = ASSIGNERS["dynamic_atss"]()
    return lambda: rule(*inputs)


def assignments(args: argparse.Namespace) -> Iterator[Rows]:
    name = "dynamic_atss"
    yield sweep(
        *(f"{name}, 1 image", "boxes", [1, 10, 100, 1000, 5000]),
        *(lambda n: assign(n, 1, 4, args), args),
    )
    yield sweep(
        *(f"{name}, 100 boxes each", "images", [1, 4, 16]),
        *(lambda n: assign(100, n, 4, args), args),
    )
    yield sweep(
        *(f"{name}, 100 boxes", "quarters of 800 x 1344 a side", [2, 4, 8]),
        *(lambda n: assign(100, 1, n, args), args),
    )


def losses(args: argparse.Namespace) -> Iterator[Rows]:
    def step(batch: int, priors: int, classes: int) -> Call:
        scene = focal.scene(batch * priors, classes, torch.float32, args.device)
        return focal.step(focal.OURS["quality focal"], scene)

    name = "quality focal"
    yield sweep(
        *(f"{name}, 1 x P x 80", "priors", [5600, 22400, 89600]),
        *(lambda n: step(1, n, 80), args),
    )
    yield sweep(
        *(f"{name}, 1 x 22400 x C", "classes", [20, 80, 320]),
        *(lambda n: step(1, 22400, n), args),
    )
    yield sweep(
        *(f"{name}, N x 22400 x 80", "images", [1, 4, 16]),
        *(lambda n: step(n, 22400, 80), args),
    )


def suppression(args: argparse.Namespace) -> Iterator[Rows]:
    def call(batch: int, candidates: int, classes: int) -> Call:
        scene = nms.scene(batch, candidates, classes, args.device)
        return lambda: nms.ours(scene, None)

    memory = args.device == "cuda"  # the memory of a CPU kernel is not counted
    yield sweep(
        *("NMS, 1 image, 80 classes", "candidates", [1000, 5000, 20000]),
        *(lambda n: call(1, n, 80), args),
        memory=memory,
    )
    yield sweep(
        *("NMS, 1 x 5000", "classes", [1, 20, 80, 320]),
        *(lambda n: call(1, 5000, n), args),
        memory=memory,
    )
    yield sweep(
        *("NMS, 5000 each, 80 classes", "images", [1, 4, 16]),
        *(lambda n: call(n, 5000, 80), args),
        memory=memory,
    )


def scoring(args: argparse.Namespace) -> Iterator[Rows]:
    def call(images: int, detections: int, categories: int) -> Call:
        content, found = evaluation.synthetic(images, detections, categories)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "annotations.json"
            path.write_text(json.dumps(content))
            truth = load_truth(path)
        return lambda: evaluation.ours(truth, found)

    yield sweep(
        *("evaluation, 100 detections each", "images", [200, 1000, 5000]),
        *(lambda n: call(n, 100, 80), args),
        host=True,
    )
    yield sweep(
        *("evaluation, 1000 images, 100 detections each", "categories", [20, 80, 320]),
        *(lambda n: call(1000, 100, n), args),
        host=True,
    )


def loading(args: argparse.Namespace) -> Iterator[Rows]:
    """Times complete passes over a data set, including the start of the workers."""
    count = 16 if args.quick else 64
    with TemporaryDirectory() as name:
        folder = Path(name)
        image_loading.photos(folder, count)
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640}
                for i in range(count)
            ],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": [
                {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [9, 9, 99, 99]}
                for i in range(count)
            ],
        }
        (folder / "annotations.json").write_text(json.dumps(content))
        data = CocoDataset(
            *(folder / "annotations.json", folder),
            training=False,
            transform=Resize((800,), 1333),
        )

        def call(workers: int) -> Call:
            loader = build_test_loader(data, ims_per_batch=4, num_workers=workers)
            return lambda: sum(len(batch.images) for batch in loader)

        stage = f"image loading, {count} images, short side 800"
        yield sweep(stage, "worker processes", [1, 2], call, args, host=True)


def training(args: argparse.Namespace) -> Iterator[Rows]:
    """Times steps of the trainer, with one image in each process."""
    max_processes = torch.cuda.device_count() if args.device == "cuda" else 2
    counts = [n for n in (1, 2, 4, 8) if n <= max_processes]
    found: Rows = []
    for i, count in enumerate(counts):
        print(f"growth: train step, {count} processes", file=sys.stderr, flush=True)
        seconds = train_step(count, args)
        before = found[-1]["ours_s"] if found else seconds
        note = f"x {count / counts[i - 1]:.3g}: x {seconds / before:.2f}" if i else ""
        case = f"train step of R-50, 1 x 320 x 320 each: {count} training processes"
        found.append(Row("growth", case, seconds, note=note, device=args.device).to_dict())
    yield found


def train_step(processes: int, args: argparse.Namespace) -> float:
    """Returns the seconds of a step with `processes` processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), str(FOLDER / "training_process.py")]
    command += ["--threads", "1", "--device", args.device, "--steps", "1" if args.quick else "5"]
    command += ["--batch", "1", "--size", "320", "320"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def rows(args: argparse.Namespace) -> Rows:
    stages = (assignments, losses, suppression, scoring, loading, training)
    return list(chain.from_iterable(part for stage in stages for part in stage(args)))


if __name__ == "__main__":
    main(__doc__, rows)
