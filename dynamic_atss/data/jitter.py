"""Applies large-scale jitter (Ghiasi et al., "Simple Copy-Paste", CVPR 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.data.crop import TRIES, Window, cut_boxes, draw_window, scale_boxes
from dynamic_atss.data.image import resize, resize_with_pillow
from dynamic_atss.types import GroundTruth


class LargeScaleJitter:
    """Resizes by a random scale and crops to a fixed size, in place of `Resize`. `Pad` follows.

    At scale 1 the image just fits into `size` (height, width). A larger image is cropped to a
    random window. If TRIES draws of scale and window contain no box, the entire image is taken at
    scale 1.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: tuple[float, float],
        min_visible: float,
        *,
        exact: bool = False,
    ) -> None:
        """Stores the parameters.

        Args:
            size: (height, width) of the result, before `Pad`.
            scale: (low, high) of the random scale.
            min_visible: see `cut_boxes`.
            exact: resizes by Pillow, as the releases do.
        """
        self.size, self.scale = size, scale
        self.resize = resize_with_pillow if exact else resize
        self.min_visible = min_visible

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        old = image.shape[1], image.shape[2]
        for _ in range(TRIES):
            new, window = self._placed(old, rng.uniform(*self.scale), rng)
            kept = self._cut(gt, old, new, window)
            if len(kept.objects) or not len(gt.objects):
                break
        else:
            new, window = self._placed(old, 1.0, rng)
            kept = self._cut(gt, old, new, window)
        return window.of(self.resize(image, *new)), kept

    def _placed(
        self, old: tuple[int, int], scale: float, rng: np.random.Generator
    ) -> tuple[tuple[int, int], Window]:
        """Returns the new size of the image, and the window to keep of it."""
        ratio = scale * min(self.size[0] / old[0], self.size[1] / old[1])
        new = max(round(old[0] * ratio), 1), max(round(old[1] * ratio), 1)
        kept = min(new[0], self.size[0]), min(new[1], self.size[1])
        return new, draw_window(*new, kept, rng)

    def _cut(
        self, gt: GroundTruth, old: tuple[int, int], new: tuple[int, int], window: Window
    ) -> GroundTruth:
        return cut_boxes(scale_boxes(gt, old, new), window, self.min_visible)


class Pad:
    """Pads an image to `size` (height, width) at the right and the bottom.

    Attributes:
        size: at least the size of the image.
        fill: the RGB value of the new pixels, 0..255.
    """

    def __init__(self, size: tuple[int, int], fill: tuple[int, int, int]) -> None:
        self.size, self.fill = size, fill

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        """Pads the image. Keeps the memory order of an (H, W, 3) array, which all images have."""
        canvas = torch.tensor(self.fill, dtype=torch.uint8).repeat(*self.size, 1).permute(2, 0, 1)
        canvas[:, : image.shape[1], : image.shape[2]] = image
        return canvas, gt
