"""Transforms images with their boxes: (image, gt, rng) -> (image, gt).

- image is (3, H, W) uint8.
- gt has boxes xyxy in pixels of the image, before and after.
- rng is the source of all random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.data.crop import scale_boxes
from dynamic_atss.data.image import resize, resize_with_pillow
from dynamic_atss.data.samples import Transform
from dynamic_atss.errors import UserError
from dynamic_atss.types import GroundTruth


class Compose:
    """Applies transforms in sequence."""

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = tuple(transforms)

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        for transform in self.transforms:
            before = gt
            image, gt = transform(image, gt, rng)
            name = getattr(transform, "name", type(transform).__name__)
            _check_kept(before, gt, name)
        return image, gt


def _check_kept(before: GroundTruth, after: GroundTruth, name: str) -> None:
    """Raises UserError if a transform lost a field of the ground truth."""
    lost = ""
    if before.ignore is not None and after.ignore is None:  # regions would be learnt as objects
        lost = "the regions to ignore"
    elif after.convention is not before.convention:  # boxes would be off by a pixel
        lost = "the convention of the boxes"
    if lost:
        raise UserError(
            f"{name} lost {lost}: return dataclasses.replace(gt, boxes=...) or gt[mask], not a new "
            "GroundTruth of three fields"
        )


class Resize:
    """Resizes the short side to one of `min_sizes`, or to an integer of `min_size_range` (closed).

    Args:
        max_size: limit of the long side, see `resized`.
        exact: resizes by Pillow, as the releases do.
    """

    def __init__(
        self,
        min_sizes: tuple[int, ...],
        max_size: int,
        min_size_range: tuple[int, int] | None = None,
        exact: bool = False,
    ) -> None:
        self.resize = resize_with_pillow if exact else resize
        self.min_sizes, self.max_size = min_sizes, max_size
        self.min_size_range = min_size_range

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        height, width = image.shape[1:]
        new_height, new_width = resized(height, width, self._draw(rng), self.max_size)
        moved = scale_boxes(gt, (height, width), (new_height, new_width))
        return self.resize(image, new_height, new_width), moved

    def _draw(self, rng: np.random.Generator) -> int:
        if self.min_size_range is not None:
            low, high = self.min_size_range
            return int(rng.integers(low, high, endpoint=True))
        return self.min_sizes[int(rng.integers(len(self.min_sizes)))]


def resized(height: int, width: int, size: int, max_size: int) -> tuple[int, int]:
    """Returns (height, width) with the short side `size`, or less to keep the long in `max_size`.

    The long side may exceed `max_size` by one pixel, because the releases round so.
    """
    short, long = min(height, width), max(height, width)
    if long / short * size > max_size:
        size = max(round(max_size * short / long), 1)
    other = int(size * long / short)
    return (size, other) if height <= width else (other, size)


class HorizontalFlip:
    """Mirrors left and right with probability `prob`: x becomes (largest x of a box) - x."""

    def __init__(self, prob: float) -> None:
        self.prob = prob

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        if rng.random() >= self.prob:
            return image, gt
        x1, y1, x2, y2 = gt.boxes.unbind(1)
        edge = image.shape[2] - gt.convention.value
        boxes = torch.stack([edge - x2, y1, edge - x1, y2], dim=1)
        return image.flip(2), replace(gt, boxes=boxes)


class VerticalFlip:
    """Mirrors top and bottom with probability `prob`: y becomes (largest y of a box) - y."""

    def __init__(self, prob: float) -> None:
        self.prob = prob

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        if rng.random() >= self.prob:
            return image, gt
        x1, y1, x2, y2 = gt.boxes.unbind(1)
        edge = image.shape[1] - gt.convention.value
        boxes = torch.stack([x1, edge - y2, x2, edge - y1], dim=1)
        return image.flip(1), replace(gt, boxes=boxes)
