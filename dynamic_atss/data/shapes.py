"""Writes the `shapes` data set: JPEG images with COCO JSON, the same for the same seed.

On another machine, OpenCV may round some pixels to the next grey level.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dynamic_atss.data.shapes_drawing import CLASSES, Scene, draw_scene
from dynamic_atss.errors import UserError
from dynamic_atss.reading import KB, read_text

_MANIFEST = "shapes.json"
_VERSION = 1
# Colours need full resolution, because small objects may differ from the background only in colour.
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


def make_shapes(
    folder: str | Path, *, train: int = 600, val: int = 120, size: int = 192, seed: int = 0
) -> None:
    """Writes `folder`/{train,val}/*.jpg and annotations/{train,val}.json, unless they exist.

    Several processes may call it at the same time. One of them writes the files into a temporary
    folder and renames it when it is complete.

    Args:
        folder: the folder of the data set.
        train, val: numbers of images.
        size: side of an image, in pixels.
        seed: decides all random numbers.

    Raises UserError if `folder` has other files or cannot be written.
    """
    folder = Path(folder)
    parameters = {"version": _VERSION, "train": train, "val": val, "size": size, "seed": seed}
    if min(train, val) < 1 or size < 64:
        raise UserError(f"{folder}: shapes need at least one image per split and 64 pixels")
    try:
        with _locked(folder):
            if is_complete(folder) and _manifest(folder) == parameters:
                return
            _check_replaceable(folder)
            _make(folder, parameters)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error}): choose another folder") from None


def is_complete(folder: str | Path) -> bool:
    """Returns True if `folder` has a complete shapes data set, with any parameters."""
    folder = Path(folder)
    manifest = _manifest(folder)
    return manifest is not None and all(
        (folder / "annotations" / f"{split}.json").is_file()
        and len(list((folder / split).glob("*.jpg"))) == manifest.get(split)
        for split in ("train", "val")
    )


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads(read_text(folder / _MANIFEST, KB))
    except (OSError, ValueError):
        return None


def _check_replaceable(folder: Path) -> None:
    """Raises UserError for a folder with files but without the manifest of shapes."""
    if folder.exists() and not (folder / _MANIFEST).is_file() and any(folder.iterdir()):
        raise UserError(f"{folder}: has other files: choose an empty or a new folder for shapes")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, parameters: dict[str, int]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's mode keeps other users out
        (temporary / "annotations").mkdir()
        for number, split in enumerate(("train", "val")):
            seed = (parameters["seed"], number)
            _write_split(temporary, split, parameters[split], parameters["size"], seed)
        (temporary / _MANIFEST).write_text(json.dumps(parameters))
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_split(folder: Path, split: str, count: int, size: int, seed: tuple[int, int]) -> None:
    (folder / split).mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        rng = np.random.default_rng((*seed, number))
        scene = draw_scene(size, rng)
        image_id = 10 * number + int(rng.integers(1, 10))  # real data has gaps, too
        name = f"{image_id:06d}.jpg"
        bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(folder / split / name), bgr, _JPEG):
            raise OSError(f"{name} was not written")
        images.append({"id": image_id, "file_name": name, "width": size, "height": size})
        annotations += _entries(scene, image_id, 3 * len(annotations) + 1)
    categories = [{"id": 2 * i + 1, "name": n} for i, n in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


def _entries(scene: Scene, image_id: int, first_id: int) -> Iterator[dict[str, Any]]:
    """Yields the COCO annotations of a scene, from the visible pixels of each object."""
    for number, (kind, mask) in enumerate(zip(scene.classes, scene.visible, strict=True)):
        x, y, width, height = cv2.boundingRect(mask)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        polygons = [c.reshape(-1).tolist() for c in contours if len(c) > 2]
        yield {
            "id": first_id + 3 * number,
            "image_id": image_id,
            "category_id": 2 * kind + 1,
            "bbox": [x, y, width, height],
            "area": int(cv2.countNonZero(mask)),
            "segmentation": polygons,
            "iscrowd": 0,
        }
