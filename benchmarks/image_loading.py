"""Resizing and loading of images beside the release's way (Pillow), on one thread.

python benchmarks/image_loading.py FOLDER [--images 40] [--short 800] [--limit 1333]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import normalize, to_tensor

from dynamic_atss.data.image import read_image, resize
from dynamic_atss.data.transforms import resized

MEAN = [102.9801, 115.9465, 122.7717]


def pillow_to_float(image: Image.Image, height: int, width: int) -> torch.Tensor:
    """What the release does after decoding: resize, to float, to BGR 0..255, minus the mean."""
    tensor = to_tensor(image.resize((width, height), Image.BILINEAR))
    return normalize(tensor[[2, 1, 0]] * 255, MEAN, [1.0, 1.0, 1.0])


def seconds(function: Callable[[], object]) -> float:
    """The best of five: other processes only ever add."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(path: Path, short: int, limit: int) -> tuple[np.ndarray, int]:
    """(3, 2) seconds: a row per way to compare, Pillow and ours; the largest difference."""
    with Image.open(path) as opened:
        old = opened.convert("RGB")
    new = read_image(path)
    height, width = resized(new.shape[1], new.shape[2], short, limit)
    expected = np.asarray(old.resize((width, height), Image.BILINEAR)).astype(int)
    found = resize(new, height, width).permute(1, 2, 0).numpy()
    ours = seconds(lambda: resize(new, height, width))
    times = [
        [seconds(lambda: old.resize((width, height), Image.BILINEAR)), ours],
        [seconds(lambda: pillow_to_float(old, height, width)), ours],
        [
            seconds(lambda: pillow_to_float(Image.open(path).convert("RGB"), height, width)),
            seconds(lambda: resize(read_image(path), height, width)),
        ],
    ]
    return np.array(times), int(np.abs(found - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--short", type=int, default=800)
    parser.add_argument("--limit", type=int, default=1333)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    paths = sorted(args.folder.glob("*.jpg"))[: args.images]
    results = [measure(path, args.short, args.limit) for path in paths]
    times = np.mean([t for t, _ in results], axis=0) * 1000
    print(f"{len(paths)} images, short side {args.short}; milliseconds per image")
    print(f"{'':34}{'release':>9}{'ours':>9}{'ratio':>8}")
    rows = ("resize alone", "resize + what the release adds", "decode + resize + the same")
    for name, (old, new) in zip(rows, times, strict=True):
        print(f"{name:34}{old:9.2f}{new:9.2f}{old / new:8.1f}")
    print(f"largest difference to Pillow: {max(d for _, d in results)} grey level(s)")


if __name__ == "__main__":
    main()
