"""Compares image loading with that of the releases (Pillow), on one thread.

    python benchmarks/image_loading.py [--folder datasets/coco/val2017] [--images 16]
        [--short 800] [--limit 1333]

Without a folder the images are generated: JPEGs of 640 x 480 with noise of several scales. Seconds
are for all images. The releases decode and resize by Pillow and normalise on the host, in float32.
Ours passes bytes on and normalises on the device. The row "normalised on the host, too" adds the
normalisation on a CPU. The limit is the decoding. Resized images must be within one grey level of
Pillow's; one value in a million may differ by two.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import main, measure
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import normalize, to_tensor

from dynamic_atss.data.dataset import Sample
from dynamic_atss.data.image import read_image, resize
from dynamic_atss.data.loader import collate
from dynamic_atss.data.transforms import resized
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.types import GroundTruth

MEAN = [102.9801, 115.9465, 122.7717]
STAGE = "image loading, one thread"
Sized = list[tuple[Path, int, int]]  # file, height and width to resize to


def photos(folder: Path, count: int) -> None:
    """Writes JPEGs of noise of several scales, about as large as photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        image = np.zeros((480, 640, 3))
        for step, weight in ((4, 12), (16, 30), (64, 40)):
            small = rng.normal(0, weight, (480 // step + 1, 640 // step + 1, 3))
            image += cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(image + 120, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=93)


def sized(folder: Path, count: int, short: int, limit: int) -> Sized:
    """Lists images with their resized sizes. Raises SystemExit if there is no image."""
    found = []
    for path in sorted(folder.glob("*.jpg"))[:count]:
        with Image.open(path) as image:
            found.append((path, *resized(image.height, image.width, short, limit)))
    if not found:
        raise SystemExit(f"error: {folder}: no *.jpg there; give another --folder")
    return found


def pillow(path: Path, height: int, width: int) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)


def release(path: Path, height: int, width: int) -> Tensor:
    """Converts to float BGR 0..255 and subtracts the mean."""
    pixels = to_tensor(pillow(path, height, width))
    return normalize(pixels[[2, 1, 0]] * 255, MEAN, [1.0, 1.0, 1.0])


def ours(path: Path, height: int, width: int) -> Tensor:
    return resize(read_image(path), height, width)


def normalized(image: Tensor) -> Tensor:
    """Normalises by the code of the model; returns (1, 3, H, W) float."""
    return _MODEL.normalize(image[None], torch.tensor([image.shape[1:]]))


_MODEL = Detector(
    *(torch.nn.Identity() for _ in range(5)),  # only the normalisation of the model is called
    pixel_mean=MEAN,
    pixel_std=[1.0, 1.0, 1.0],
)


def release_batch(images: list[Tensor], step: int = 32) -> Tensor:
    """Pads with 0 to the largest sides, rounded up."""
    height, width = (-(-max(i.shape[k] for i in images) // step) * step for k in (1, 2))
    batch = torch.zeros(len(images), 3, height, width)
    for target, image in zip(batch, images, strict=True):
        target[:, : image.shape[1], : image.shape[2]] = image
    return batch


def our_batch(images: list[Tensor]) -> Tensor:
    empty = torch.zeros(0, dtype=torch.int64)
    gt = GroundTruth(torch.zeros(0, 4), empty, empty)
    return collate([Sample(image, gt, 0, (1, 1)) for image in images], 32).images


def compare(files: Sized) -> str:
    """Says what was compared. Raises AssertionError if the images differ."""
    counts = np.zeros(256, np.int64)
    for file in files:
        expected = np.asarray(pillow(*file)).astype(np.int16)
        difference = np.abs(ours(*file).permute(1, 2, 0).numpy() - expected)
        counts += np.bincount(difference.ravel(), minlength=256)
    largest = int(counts.nonzero()[0].max())
    assert largest <= 2 and counts[2] <= 1e-6 * counts.sum(), (
        f"grey levels off: {counts[: largest + 1]}"
    )
    share = 1000 * counts[1:].sum() / counts.sum()
    return f"{share:.1f} values in 1,000 are off, by {largest} grey level(s) at most"


def case_rows(files: Sized, title: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    compressed = [np.frombuffer(path.read_bytes(), np.uint8) for path, *_ in files]
    decoded = [read_image(path) for path, *_ in files]
    opened = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in decoded]
    bilinear = Image.Resampling.BILINEAR

    def each(call: Callable[..., Any], *columns: Any) -> Callable[[], list[Any]]:
        return lambda: [call(*row) for row in zip(*columns, strict=True)]

    file, sides = [*zip(*files, strict=True)], [(h, w) for _, h, w in files]
    # ours, the releases', whether both return the same kind of pixels
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
        "decode, resize, to tensor": (
            each(ours, *file),
            each(release, *file),
            "ours: uint8, normalised on the device; Pillow's: float32, normalised",
        ),
        "the same, normalised on the host, too": (
            each(lambda *f: normalized(ours(*f)), *file),
            each(release, *file),
            "",
        ),
        "decode, resize": (
            each(ours, *file),
            each(lambda *f: np.asarray(pillow(*f)), *file),
            "uint8 on both sides",
        ),
        "resize alone": (
            each(lambda image, side: resize(image, *side), decoded, sides),
            each(lambda image, side: image.resize(side[::-1], bilinear), opened, sides),
            "",
        ),
        "decode to padded batch": (
            lambda: our_batch(each(ours, *file)()),
            lambda: release_batch(each(release, *file)()),
            "as the first; padded by the loader's collate",
        ),
    }
    same, found = compare(files), []
    for name, (mine, theirs, note) in cases.items():
        limited = name != "resize alone"
        found += measure(
            *(STAGE, f"{name}: {title}", mine, {"Pillow, as released": theirs}, args),
            limit="decoding" if limited else "",
            at_limit=each(lambda x: cv2.imdecode(x, cv2.IMREAD_COLOR), compressed)
            if limited
            else None,
            memory=False,
            same=same,
            note=note,
            device="host",
        )
    return found


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.quick:
        args.images, args.short = min(args.images, 4), args.short[:1]
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        stack.callback(cv2.setNumThreads, cv_threads)
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        folder = args.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            photos(folder, args.images)
        kind = "generated images" if args.folder is None else f"images of {folder.name}"
        made = []
        for short in args.short:
            files = sized(folder, args.images, short, args.limit * short // 800)
            made += case_rows(files, f"{len(files)} {kind}, short side {short}", args)
        return made


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="folder of *.jpg; default: generated images")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--short", type=int, nargs="+", default=[800, 320])
    parser.add_argument(
        "--limit", type=int, default=1333, help="limit of the long side for a short side of 800"
    )


if __name__ == "__main__":
    main(__doc__, rows, arguments)
