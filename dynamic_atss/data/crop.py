"""Windows of an image, the boxes that remain in them, and a random crop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.types import GroundTruth

TRIES = 20  # windows drawn until one holds a box: bounded, and seldom more than two or three


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels."""

    left: int
    top: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """A view of the image's (3, H, W) pixels in the window."""
        rows = slice(self.top, self.top + self.height)
        return image[:, rows, self.left : self.left + self.width]


def draw_window(height: int, width: int, size: tuple[int, int], rng: np.random.Generator) -> Window:
    """A window of `size` (height, width) anywhere in an image that is at least as large."""
    top = int(rng.integers(height - size[0], endpoint=True))
    left = int(rng.integers(width - size[1], endpoint=True))
    return Window(left, top, *size)


def scale_boxes(gt: GroundTruth, old: tuple[int, int], new: tuple[int, int]) -> GroundTruth:
    """Boxes of an image of size `old` (height, width) in pixels of the same image at size `new`.

    The releases' rule, also in the legacy convention: every corner times the ratio of its axis.
    """
    ratio = torch.tensor([new[1] / old[1], new[0] / old[0]] * 2)
    return replace(gt, boxes=gt.boxes * ratio)


def cut_boxes(gt: GroundTruth, window: Window, min_visible: float) -> GroundTruth:
    """What of the boxes lies in the window, in its pixels.

    Dropped are objects of which less than the fraction `min_visible` of the area is left, and, as
    in the data set, boxes without extent or of less than a pixel in width or height. Of a region to
    ignore what is left stays one, however little.
    """
    beyond = gt.convention.value
    moved = gt.boxes - gt.boxes.new_tensor([window.left, window.top] * 2)
    limit = gt.boxes.new_tensor([window.width, window.height] * 2) - beyond
    inside = torch.minimum(moved.clamp(min=0), limit.clamp(min=0))
    side = inside[:, 2:] - inside[:, :2]
    large = ((side > 0) & (side + beyond >= 1)).all(1)
    area = gt.convention.area
    visible = area(inside) >= min_visible * area(moved)
    if gt.ignore is not None:
        visible |= gt.ignore
    return replace(gt, boxes=inside)[large & visible]


class RandomCrop:
    """With probability `prob` a random window of the image, which holds at least one object.

    Its height and its width are drawn by themselves from the fractions `side`, (low, high), of the
    image's. Of an image whose boxes would be lost in every one of a few windows, all is kept; one
    without boxes is cropped anywhere.
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
