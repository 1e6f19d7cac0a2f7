"""Reads every picture of a data set as a training does, and keeps the data for comparisons."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.survey import Finding, share
from dynamic_atss.errors import UserError
from dynamic_atss.progress import progress


def _import_imagehash() -> Any:
    """Imports the optional library. Returns None if it is not installed."""
    try:
        return importlib.import_module("imagehash")
    except ImportError:
        return None


imagehash = _import_imagehash()
THUMB = 16  # side of the grey thumbnail, in pixels


@dataclass(frozen=True)
class Picture:
    """Holds the data of a picture for comparisons.

    Attributes:
        error: why the picture cannot be read, or "".
        digest: the SHA-256 of the file.
        hash: 64 bits, similar for similar pictures. None without the library.
        thumb: (THUMB, THUMB) float32 grey levels.
    """

    error: str
    digest: str = ""
    hash: int | None = None
    thumb: np.ndarray | None = None


def read_pictures(dataset: DetectionDataset) -> list[Picture]:
    """Reads all pictures with the data set's reader, in threads."""
    threads = min(32, 2 * (os.cpu_count() or 1))
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda index: _picture(dataset, index), range(len(dataset)))
        return list(progress(found, f"pictures of {dataset.short_name}", len(dataset)))


def _picture(dataset: DetectionDataset, index: int) -> Picture:
    try:
        image, _ = dataset.load(index)
        digest = hashlib.sha256(dataset.path(index).read_bytes()).hexdigest()
    except UserError as error:
        return Picture(str(error))
    except OSError as error:
        return Picture(f"{dataset.path(index)}: {error.strerror}")
    return Picture("", digest, *hash_and_thumb(image.permute(1, 2, 0).contiguous().numpy()))


def hash_and_thumb(pixels: np.ndarray) -> tuple[int | None, np.ndarray]:
    """Computes `hash` and `thumb` of a `Picture` from (H, W, 3) uint8 RGB."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_AREA)
    thumb = cv2.resize(small, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    return _hash(small), thumb.astype(np.float32)


def _hash(grey: np.ndarray) -> int | None:
    if imagehash is None:
        return None
    return int(str(imagehash.phash(Image.fromarray(grey))), 16)


def broken_pictures(where: str, errors: Sequence[str], total: int) -> Iterator[Finding]:
    """Finds files with a valid header that cannot be decoded.

    Args:
        where: the annotation file.
        errors: one message for each such file.
        total: number of all images.
    """
    if errors:
        yield Finding(
            "stop",
            "undecodable",
            where,
            len(errors),
            f"{share(len(errors), total, 'images')} cannot be decoded, the first: {errors[0]}",
            "fetch them again, or remove them, as --fix does",
            tuple(errors),
        )
