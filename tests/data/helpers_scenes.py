"""Makes images whose boxes can be found by their colour."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import GroundTruth

NONE = torch.zeros(0, dtype=torch.int64)
EMPTY = GroundTruth(torch.zeros(0, 4), NONE, NONE)


def color(index: int) -> tuple[int, int, int]:
    """Returns a colour that is far from black and from those of other indices, 0..6."""
    bits = index + 1
    return 255 * (bits & 1), 255 * (bits >> 1 & 1), 255 * (bits >> 2 & 1)


def painted(height: int, width: int, boxes: list[list[int]]) -> tuple[Tensor, GroundTruth]:
    """Makes a black image (3, H, W) with pixels x1..x2, y1..y2 of box i in color(i).

    Box i has the class i.
    """
    pixels = np.zeros((height, width, 3), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        pixels[y1 : y2 + 1, x1 : x2 + 1] = color(i)
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(boxes)
    gt = GroundTruth(tensor, torch.arange(count), torch.zeros(count, dtype=torch.int64))
    return torch.from_numpy(pixels).permute(2, 0, 1), gt


def found(image: Tensor, index: int, at_least: int = 128) -> list[int] | None:
    """Finds the box of the pixels that are nearer to color(index) than to other colours."""
    wanted = torch.tensor(color(index))[:, None, None] > 0
    rows, columns = torch.nonzero(((image >= at_least) == wanted).all(0), as_tuple=True)
    if not len(rows):
        return None
    return [int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max())]


def random_scene(
    seed: int,
    height: int,
    width: int,
    count: int,
    convention: BoxConvention = BoxConvention.LEGACY,
) -> tuple[Tensor, GroundTruth]:
    """Makes noise with `count` random boxes of more than one pixel."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    low = rng.uniform(0, (max(width - 1.5, 0), max(height - 1.5, 0)), (count, 2))
    high = low + rng.uniform(0.4, (width, height), (count, 2))
    boxes = np.concatenate([low, np.minimum(high, (width - 1, height - 1))], axis=1)
    classes = torch.from_numpy(rng.integers(0, 5, count))
    packed = torch.from_numpy(boxes).float(), classes, torch.zeros_like(classes)
    gt = GroundTruth(*packed, convention=convention)
    return torch.from_numpy(pixels).permute(2, 0, 1), gt


def check_boxes(image: Tensor, gt: GroundTruth) -> None:
    """Checks that the boxes of an image are finite, inside it, with extent, and packed."""
    height, width = image.shape[1:]
    assert image.dtype == torch.uint8 and len(image) == 3
    assert len(gt.boxes) == len(gt.classes) == len(gt.image_index) and gt.boxes.shape[1] == 4
    assert gt.boxes.dtype == torch.float32 and torch.isfinite(gt.boxes).all()
    assert (gt.boxes[:, 2:] > gt.boxes[:, :2]).all() and (gt.boxes >= 0).all()
    assert (gt.boxes <= torch.tensor([width, height] * 2) - gt.convention.value + 1e-4).all()
    assert (gt.image_index == 0).all()
