"""Loads the pictures of the page, resized as the network receives them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from yacs.config import CfgNode

from dynamic_atss.builders.data import build_reading, find_formats
from dynamic_atss.builders.heads import build_head
from dynamic_atss.builders.tta import build_test_resizes
from dynamic_atss.data.catalog import UnknownName, open_dataset
from dynamic_atss.data.dataset import DetectionDataset, name_of
from dynamic_atss.data.loader import collate
from dynamic_atss.errors import UserError
from dynamic_atss.types import Batch

# Longest side in pixels and JPEG quality. The first form in which all pictures fit is used.
JPEG_FORMS = ((1400, 85), (1100, 80), (900, 70), (700, 65), (560, 55), (420, 45), (320, 35))
MAX_BYTES = 1_600_000  # for all pictures together
KEY = "--images"


@dataclass(frozen=True)
class Picture:
    """Holds one picture: its file's name and a batch that contains only this picture."""

    name: str
    batch: Batch


def open_images(cfg: CfgNode, name: str) -> DetectionDataset:
    """Opens the data set `name`, or the first of DATASETS.TRAIN and DATASETS.TEST for "".

    Raises:
        UserError: there is no data set, or it cannot be read.
    """
    names = [name] if name else [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST][:1]
    if not names:
        raise UserError(
            "the configuration names no data set: add --images, such as "
            "coco:<annotations.json>:<folder>"
        )
    if Path(names[0]).expanduser().exists():
        raise UserError(
            f"{KEY} {names[0]}: a file or folder without annotations has no boxes; give a data "
            "set, such as coco:<annotations.json>:<folder>"
        )
    try:
        return open_dataset(
            names[0],
            root=cfg.DATASETS.ROOT,
            formats=find_formats("DATASETS.TRAIN", names),
            training=False,
            transform=build_test_resizes(cfg)[0],
            seed=cfg.SEED,
            convention=build_head(cfg).boxes,
            keep_crowds=cfg.MODEL.ASSIGNER.IGNORE_REGIONS,
            reading=build_reading(cfg),
        )
    except UnknownName as error:
        raise UserError(f"{KEY}: {error}") from error


def choose(dataset: DetectionDataset, count: int, only: Sequence[str]) -> list[int]:
    """Chooses pictures and gives their indices in the data set.

    Args:
        count: pictures with boxes, spread evenly over the data set, when `only` is empty.
        only: file names or image ids.

    Raises:
        UserError: no picture has a box, or a name of `only` is unknown.
    """
    if only:
        return [_place_of(dataset, name) for name in only]
    with_boxes = np.unique(dataset.classes_by_image()[0])
    if not len(with_boxes):
        raise UserError(
            f"{dataset.annotations}: no picture has a box: give a data set with boxes (--images)"
        )
    places = np.linspace(0, len(with_boxes) - 1, min(count, len(with_boxes))).round()
    return [int(i) for i in with_boxes[places.astype(int)]]


def _place_of(dataset: DetectionDataset, name: str) -> int:
    for place, number in enumerate(dataset.image_ids):
        path = name_of(dataset, place)
        if name in (str(number), path, Path(path).name):
            return place
    raise UserError(f"--only {name}: {dataset.annotations} has no picture of that name or id")


def load(cfg: CfgNode, dataset: DetectionDataset, place: int) -> Picture:
    batch = collate([dataset[place]], cfg.DATALOADER.SIZE_DIVISIBILITY)
    return Picture(Path(name_of(dataset, place)).name, batch)


def as_jpegs(pictures: Sequence[Picture]) -> list[str]:
    """Encodes each picture without its padding as JPEG in base64, all at the same quality.

    Chooses the largest form of JPEG_FORMS in which all pictures together fit MAX_BYTES.
    """
    coded: list[bytes] = []
    for side, quality in JPEG_FORMS:
        coded = [_jpeg(picture.batch, side, quality) for picture in pictures]
        if sum(map(len, coded)) <= MAX_BYTES:
            break
    return [base64.b64encode(jpeg).decode() for jpeg in coded]


def _jpeg(batch: Batch, side: int, quality: int) -> bytes:
    height, width = batch.sizes[0].tolist()
    pixels = batch.images[0, :, :height, :width].permute(1, 2, 0).numpy()[..., ::-1]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded[1].tobytes()
