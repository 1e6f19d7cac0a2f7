"""Makes small COCO data sets for the tests of the data package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dynamic_atss.data.coco import CocoDataset

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def box(id: int, image: int, bbox: list[float], category: int = 7, **fields: Any) -> dict[str, Any]:
    return {"id": id, "image_id": image, "category_id": category, "bbox": bbox, **fields}


def write_images(folder: Path, sizes: dict[int, tuple[int, int]]) -> list[dict[str, Any]]:
    """Writes random PNGs `<id>.png` of (height, width); returns the entries of `images`."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for id, (height, width) in sizes.items():
        pixels = np.random.default_rng(id).integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{id}.png"), pixels)
        entries.append({"id": id, "file_name": f"{id}.png", "height": height, "width": width})
    return entries


def write_coco(
    folder: Path,
    sizes: dict[int, tuple[int, int]],
    annotations: list[dict[str, Any]],
    changes: dict[str, Any] | None = None,
) -> Path:
    """Writes `folder`/a.json, and its images into `folder`/images.

    Args:
        changes: replace top-level entries.
    """
    content = {
        "images": write_images(folder / "images", sizes),
        "annotations": annotations,
        "categories": CATEGORIES,
        **(changes or {}),
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def open_coco(path: Path, training: bool = True, **options: Any) -> CocoDataset:
    return CocoDataset(path, path.parent / "images", training=training, **options)


def voc_object(name: str, corners: str, **elements: str) -> str:
    """Makes an <object>.

    Args:
        corners: "xmin ymin xmax ymax".
        elements: further elements, such as difficult="1".
    """
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners.split(), strict=True))
    others = "".join(f"<{k}>{v}</{k}>" for k, v in elements.items())
    return f"<object><name>{name}</name>{others}<bndbox>{box}</bndbox></object>"


def voc_xml(objects: str, height: int = 20, width: int = 30) -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>"


def write_voc(
    folder: Path, images: dict[str, str], splits: dict[str, list[str]], ending: str = "jpg"
) -> Path:
    """Writes a devkit of 20 x 30 images with their objects."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (name, objects) in enumerate(images.items()):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"JPEGImages/{name}.{ending}"), pixels)
        (folder / f"Annotations/{name}.xml").write_text(voc_xml(objects))
    for split, names in splits.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{n}\n" for n in names))
    return folder
