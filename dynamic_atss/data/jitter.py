"""Large-scale jitter (Ghiasi et al., "Simple Copy-Paste", CVPR 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.data.crop import TRIES, Window, cut_boxes, draw_window, scale_boxes
from dynamic_atss.data.image import resize, resize_with_pillow
from dynamic_atss.types import GroundTruth


class LargeScaleJitter:
    """Resizes by a wide range of scales and crops to one fixed size, in place of `Resize`; `Pad`
    then fills up what is missing.

    At scale 1 the image just fits into `size` (height, width). What exceeds it is cut to a random
    window. If a few draws of scale and window leave no box, the image is taken whole, at scale 1.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: tuple[float, float],
        min_visible: float,
        *,
        exact: bool = False,
    ) -> None:
        """scale: (low, high) · exact: resize by Pillow, as the releases."""
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
        """The image's new size, and the window of it that is kept."""
        ratio = scale * min(self.size[0] / old[0], self.size[1] / old[1])
        new = max(round(old[0] * ratio), 1), max(round(old[1] * ratio), 1)
        kept = min(new[0], self.size[0]), min(new[1], self.size[1])
        return new, draw_window(*new, kept, rng)

    def _cut(
        self, gt: GroundTruth, old: tuple[int, int], new: tuple[int, int], window: Window
    ) -> GroundTruth:
        return cut_boxes(scale_boxes(gt, old, new), window, self.min_visible)


class Pad:
    """Fills an image up to `size` (height, width) at the right and the bottom.

    size: at least the image's · fill: RGB in 0..255
    """

    def __init__(self, size: tuple[int, int], fill: tuple[int, int, int]) -> None:
        self.size, self.fill = size, fill

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        """The image comes back in the memory order of an (H, W, 3) array, as all images."""
        canvas = torch.tensor(self.fill, dtype=torch.uint8).repeat(*self.size, 1).permute(2, 0, 1)
        canvas[:, : image.shape[1], : image.shape[2]] = image
        return canvas, gt
