"""Generates anchors and points on the lattices of the feature levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from dynamic_atss.types import Level, Priors, to_device


class AnchorGenerator:
    """Generates the anchors of all levels, and caches them by feature sizes.

    A location is at (column + offset) * stride. Each location has `len(aspect_ratios) *
    scales_per_octave` anchors, sorted by ratio, then by scale. As in the releases, the sides of a
    ratio (height / width) are rounded for a square of one stride and then scaled. A box is
    [centre - (side - 1) / 2, centre + (side - 1) / 2].

    Args:
        sizes: side of the square anchor by level, in pixels.
        offset: 0.5: centres of the cells.
    """

    sized = True

    def __init__(
        self,
        strides: Sequence[int],
        sizes: Sequence[float],
        aspect_ratios: Sequence[float] = (1.0,),
        octave: float = 2.0,
        scales_per_octave: int = 1,
        offset: float = 0.5,
    ) -> None:
        scales = [octave ** (i / scales_per_octave) for i in range(scales_per_octave)]
        self.strides = tuple(strides)
        self.cells = [
            _cell_anchors(stride, [size * s for s in scales], aspect_ratios, offset)
            for stride, size in zip(strides, sizes, strict=True)
        ]
        self.offset = offset
        # Sizes vary from batch to batch, so the cache holds the usual ones and has a limit.
        self._cached = lru_cache(maxsize=64)(self._make)

    @property
    def per_location(self) -> int:
        return len(self.cells[0])

    def __call__(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> Priors:
        """Gives the priors for feature maps of `sizes`, (height, width) by level."""
        if any(isinstance(side, torch.SymInt) for size in sizes for side in size):  # traced
            made = self._lattice(sizes)
            return replace(made, boxes=made.boxes.to(device))
        return self._cached(tuple(sizes), device)

    @torch.inference_mode(False)  # so that training can use priors that a test has cached
    def _make(self, sizes: tuple[tuple[int, int], ...], device: torch.device) -> Priors:
        return to_device(self._lattice(sizes), device)

    def _lattice(self, sizes: Sequence[tuple[int, int]]) -> Priors:
        """Makes the priors on the CPU."""
        levels = tuple(Level(h, w, s) for (h, w), s in zip(sizes, self.strides, strict=True))
        boxes = [_spread(cell, level) for cell, level in zip(self.cells, levels, strict=True)]
        return Priors(torch.cat(boxes), levels, self.per_location, self.offset, self.sized)


class PointGenerator(AnchorGenerator):
    """Generates one point per location. Its box is one stride wide in the legacy convention."""

    sized = False

    def __init__(self, strides: Sequence[int], offset: float = 0.5) -> None:
        super().__init__(strides, strides, offset=offset)


def _cell_anchors(
    stride: int, sizes: Sequence[float], ratios: Sequence[float], offset: float
) -> Tensor:
    """Gives the A anchors of the cell at the origin, (A, 4)."""
    anchors = []
    for ratio in ratios:
        width = round((stride * stride / ratio) ** 0.5)
        height = round(width * ratio)
        for size in sizes:
            half_w, half_h = (width * size / stride - 1) / 2, (height * size / stride - 1) / 2
            center = stride * offset
            anchors.append([center - half_w, center - half_h, center + half_w, center + half_h])
    return torch.tensor(anchors, dtype=torch.float64).float()


def _spread(cell: Tensor, level: Level) -> Tensor:
    """Repeats the cell's anchors at every location, (H * W * A, 4), by row, column and anchor."""
    y = torch.arange(level.height, dtype=torch.float32) * level.stride
    x = torch.arange(level.width, dtype=torch.float32) * level.stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
    return (shifts + cell).reshape(-1, 4)
