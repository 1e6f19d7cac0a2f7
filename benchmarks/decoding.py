"""Measures whether images can be decoded and resized as fast as a training takes them.

    python benchmarks/decoding.py [--device cuda] [--folder datasets/coco/val2017] [--images 64]
        [--workers 16] [--batch 16] [--rate 240]

Ours is the loader of a run: OpenCV in worker processes, which resize to a short side of 800 and
pad. The clock starts when they have filled their queues. On a GPU, torchvision's
`decode_jpeg` decodes the same files in batches (nvJPEG) and resizes them there; its files lie in
memory before the clock starts. The note compares images per second with `--rate`. Without a folder
the images are generated: JPEGs of 640 x 480, which become 800 x 1067.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch
from common import Row, alternate, failed_row, main, spent
from image_loading import photos
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from dynamic_atss.data.coco import CocoDataset
from dynamic_atss.data.loader import build_train_loader
from dynamic_atss.data.transforms import Resize, resized

STAGE = "decoding and resizing"
LONG = 100_000  # batches, more than the clock lets pass
FIRST = 2  # batches of each worker that are loaded before the clock starts: those fetched ahead


def dataset(folder: Path, count: int, short: int, scratch: Path) -> CocoDataset:
    """Makes a data set of images of a folder. Raises SystemExit if there is none."""
    files = sorted(folder.glob("*.jpg"))[:count]
    if not files:
        raise SystemExit(f"error: {folder}: no *.jpg there; give another --folder")
    images = []
    for i, path in enumerate(files):
        height, width = cv2.imread(str(path)).shape[:2]
        images.append({"id": i, "file_name": path.name, "height": height, "width": width})
    kinds = [{"id": 1, "name": "object"}]
    boxes = [
        {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [9, 9, 99, 99]}
        for i in range(len(files))
    ]
    content = {"images": images, "categories": kinds, "annotations": boxes}
    (scratch / "annotations.json").write_text(json.dumps(content))
    resize = Resize((short,), 1333 * short // 800)
    return CocoDataset(scratch / "annotations.json", folder, training=True, transform=resize)


def loader_rate(data: CocoDataset, workers: int, args: argparse.Namespace) -> float:
    """Returns the images per second of the loader of a training, once its workers have started."""
    loader = build_train_loader(
        data,
        ims_per_batch=args.batch,
        stop=LONG,
        num_workers=workers,
        size_divisibility=32,
        pin_memory=args.device == "cuda",
    )
    batches = iter(loader)
    ahead = max(FIRST * workers, 1)
    for _ in range(ahead):
        next(batches)
    begin, count = time.perf_counter(), 0
    while count < ahead or spent(begin) < args.seconds:
        next(batches)
        count += 1
    seconds = spent(begin)
    batches.close()  # type: ignore[attr-defined]  # it is a generator: ends the workers
    return count * args.batch / seconds


def decode_on_gpu(files: list[Tensor], short: int) -> Callable[[], list[Tensor]]:
    """Decodes files in one call and resizes each image, on the GPU."""

    def resize(image: Tensor) -> Tensor:
        size = resized(*image.shape[1:], short, 1333 * short // 800)
        pixels = image[None].float()
        pixels = torch.nn.functional.interpolate(pixels, size, mode="bilinear")
        return pixels.round_().to(torch.uint8)[0]

    def call() -> list[Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it names its successor, TorchCodec
            decoded = decode_jpeg(files, ImageReadMode.RGB, device="cuda")
        return [resize(image) for image in decoded]

    return call


def row(case: str, rate: float, args: argparse.Namespace, device: str) -> dict[str, Any]:
    ahead = rate >= args.rate
    verb = "keeps" if ahead else "does not keep"
    note = f"{rate:.4g} images/s: {verb} ahead of {args.rate:g} images/s"
    numbers = {"images_per_second": rate}
    made = Row(STAGE, case, 1 / rate, note=note, device=device, numbers=numbers)
    return made.to_dict()


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if args.quick:
        args.images, args.batch = min(args.images, 4), 2
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = args.folder or scratch
        if args.folder is None:
            photos(folder, args.images)
        data = dataset(folder, args.images, args.short, scratch)
        for workers in args.workers:
            case = f"one image: OpenCV, {workers} worker(s)"
            yield row(case, loader_rate(data, workers, args), args, "host")
        if args.device == "cuda":
            yield gpu_row(sorted(folder.glob("*.jpg"))[: args.images], args)


def gpu_row(paths: list[Path], args: argparse.Namespace) -> dict[str, Any]:
    case = f"one image: torchvision decode_jpeg on the GPU, {args.batch} at once"
    files = [torch.frombuffer(bytearray(p.read_bytes()), dtype=torch.uint8) for p in paths]
    files = (files * -(-args.batch // len(files)))[: args.batch]
    try:
        (seconds,) = alternate([decode_on_gpu(files, args.short)], args.seconds, args.device)
    except Exception as error:  # any error: the loader's rows are there
        if "nvjpeg support" in str(error).lower():  # no fault of this project
            note = "not run: torchvision is without nvJPEG"
            return Row(STAGE, case, note=note, device="cuda").to_dict()
        return failed_row(STAGE, case, error, "cuda")
    return row(case, args.batch / seconds, args, "cuda")


def arguments(parser: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--folder", type=Path, help="folder of *.jpg; default: generated images")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--short", type=int, default=800, help="short side to resize to")
    parser.add_argument("--batch", type=int, default=16, help="images of a batch")
    parser.add_argument("--workers", type=int, nargs="+", default=[cores], help="default: cores")
    parser.add_argument(
        "--rate", type=float, default=240.0, help="images that the training takes in a second"
    )


if __name__ == "__main__":
    main(__doc__, rows, arguments)
