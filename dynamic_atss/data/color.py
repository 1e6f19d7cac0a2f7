"""Changes the colours of an image at random."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from dynamic_atss.types import GroundTruth

Change = Callable[[Tensor, float], Tensor]


def adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """Scales the distance of pixels to the mean grey by `factor`, as torchvision does.

    Computes the mean in float64, in which the sum of grey levels is exact. torchvision's float32
    sum depends on the number of threads, so that a run would depend on its number of workers.
    """
    grey = float(functional.rgb_to_grayscale(image).double().mean())
    blend = image.float() * factor + grey * (1 - factor)
    return blend.clamp(0, 255).to(torch.uint8)


class ColorJitter:
    """Changes brightness, contrast, saturation and hue by random factors, in random order.

    Draws factors from [max(0, 1 - x), 1 + x]. Draws the shift of the hue, in turns of the colour
    circle, from [-hue, hue]. A parameter of 0 leaves its property unchanged. Boxes stay as they
    are.
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        def around_one(by: float) -> tuple[float, float]:
            return max(0.0, 1 - by), 1 + by

        changes: list[tuple[float, Change, tuple[float, float]]] = [
            (brightness, functional.adjust_brightness, around_one(brightness)),
            (contrast, adjust_contrast, around_one(contrast)),
            (saturation, functional.adjust_saturation, around_one(saturation)),
            (hue, functional.adjust_hue, (-hue, hue)),
        ]
        self.changes = [(change, limits) for by, change, limits in changes if by > 0]

    def __call__(
        self, image: Tensor, gt: GroundTruth, rng: np.random.Generator
    ) -> tuple[Tensor, GroundTruth]:
        for i in rng.permutation(len(self.changes)).tolist():
            change, limits = self.changes[i]
            image = change(image, float(rng.uniform(*limits)))
        # Restore the memory order of an (H, W, 3) array, which all images have.
        return image.permute(1, 2, 0).contiguous().permute(2, 0, 1), gt
