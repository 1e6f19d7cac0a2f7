"""Crops images and their boxes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.types import GroundTruth

TRIES = 20  # limit of windows drawn until one contains a box; two or three usually suffice


@dataclass(frozen=True)
class Window:
    """Describes a rectangle in integer pixels."""

    left: int
    top: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """Returns a view of the pixels of an image (3, H, W) inside the window."""
        rows = slice(self.top, self.top + self.height)
        return image[:, rows, self.left : self.left + self.width]


def draw_window(height: int, width: int, size: tuple[int, int], rng: np.random.Generator) -> Window:
    """Draws a window of `size` (height, width) in an image that is at least as large."""
    top = int(rng.integers(height - size[0], endpoint=True))
    left = int(rng.integers(width - size[1], endpoint=True))
    return Window(left, top, *size)


def scale_boxes(gt: GroundTruth, old: tuple[int, int], new: tuple[int, int]) -> GroundTruth:
    """Scales boxes with their image from size `old` to size `new`, both (height, width).

    Multiplies corners by the ratio of the sizes, as the releases do, in both box conventions.
    """
    ratio = torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)
    return replace(gt, boxes=gt.boxes * ratio)


def cut_boxes(gt: GroundTruth, window: Window, min_visible: float) -> GroundTruth:
    """Clips boxes to the window. The result is in pixels of the window.

    Drops objects with less than the fraction `min_visible` of their area left. Drops boxes without
    extent or with a side below one pixel, as the data set does. A region to ignore is dropped only
    for its extent or its side.
    """
    last_pixel = gt.convention.value
    moved = gt.boxes - gt.boxes.new_tensor([window.left, window.top] * 2)
    limit = gt.boxes.new_tensor([window.width, window.height] * 2) - last_pixel
    inside = torch.minimum(moved.clamp(min=0), limit.clamp(min=0))
    side = inside[:, 2:] - inside[:, :2]
    large = ((side > 0) & (side + last_pixel >= 1)).all(1)
    area = gt.convention.area
    visible = area(inside) >= min_visible * area(moved)
    if gt.ignore is not None:
        visible |= gt.ignore
    return replace(gt, boxes=inside)[large & visible]


class RandomCrop:
    """Crops an image, with probability `prob`, to a random window with at least one object.

    Draws height and width of the window separately, each as a fraction of the image's. `side` (low,
    high) limits the fraction. Keeps the entire image if TRIES windows contain no object. Crops
    images without objects anywhere.
    """

    def __init__(self, prob: float, side: tuple[float, float], min_visible: float) -> None:
        self.prob, self.side, self.min_visible = prob, side, min_visible

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        if rng.random() >= self.prob:
            return image, gt
        for _ in range(TRIES):
            window = self._draw(image, rng)
            kept = cut_boxes(gt, window, self.min_visible)
            if len(kept.objects) or not len(gt.objects):
                return window.of(image), kept
        return image, gt

    def _draw(self, image: Tensor, rng: np.random.Generator) -> Window:
        height, width = image.shape[1:]
        down, across = rng.uniform(*self.side, size=2).tolist()
        size = max(round(down * height), 1), max(round(across * width), 1)
        return draw_window(height, width, size, rng)
