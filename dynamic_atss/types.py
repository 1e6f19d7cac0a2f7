"""The tensors that travel from disk to loss, each with its layout fixed here.

Letters in shapes: N images, L levels, P priors of all levels, T ground-truth boxes of the whole
batch, C classes, D detections of one image. Boxes are float32 xyxy in pixels of the resized image;
classes are 0..C-1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

BACKGROUND = -1
IGNORE = -2

_T = TypeVar("_T")


def to_device(value: _T, device: torch.device | str) -> _T:
    """A copy of a dataclass whose tensors (also those of nested dataclasses) lie on `device`."""

    def move(field: Any) -> Any:
        if isinstance(field, Tensor):
            return field.to(device, non_blocking=True)
        return to_device(field, device) if hasattr(field, "__dataclass_fields__") else field

    names = [f.name for f in fields(value)]  # type: ignore[arg-type]
    return replace(value, **{n: move(getattr(value, n)) for n in names})  # type: ignore[type-var]


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of a batch, packed: boxes of image 0 first, then those of image 1, and so
    on.

    boxes (T, 4) float32 · classes (T,) int64 in 0..C-1 · image (T,) int64 in 0..N-1
    """

    boxes: Tensor
    classes: Tensor
    image: Tensor

    def __len__(self) -> int:
        return self.boxes.shape[0]


@dataclass(frozen=True)
class Batch:
    """Images padded at the right and the bottom to one size.

    images (N, 3, H, W) uint8 RGB · sizes (N, 2) int64, (height, width) without the padding ·
    image_ids, the data set's own ids · original_sizes, (height, width) of the files
    """

    images: Tensor
    sizes: Tensor
    gt: GroundTruth
    image_ids: tuple[int, ...]
    original_sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Level:
    """One feature level's lattice of priors: location (row, column) lies at `(column + offset) *
    stride`."""

    height: int
    width: int
    stride: int

    @property
    def locations(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Priors:
    """The priors of all levels; order: level, row, column, anchor of the location.

    boxes (P, 4) · levels, one `Level` each · per_location, anchors at each location (A) ·
    offset, of the lattice in strides (0.5: centres of the cells)
    """

    boxes: Tensor
    levels: tuple[Level, ...]
    per_location: int = 1
    offset: float = 0.5

    def __len__(self) -> int:
        return self.boxes.shape[0]

    @cached_property
    def centers(self) -> Tensor:
        """(P, 2), x and y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


@dataclass(frozen=True)
class Predictions:
    """What an assigner may read of the network's output, detached: boxes (N, P, 4), logits (N, P,
    C)."""

    boxes: Tensor
    logits: Tensor

    @property
    def scores(self) -> Tensor:
        """(N, P, C) in [0, 1]."""
        return self.logits.sigmoid()


@dataclass(frozen=True)
class Assignment:
    """What every prior learns.

    gt_index (N, P) int64: an index into the packed ground truth, or BACKGROUND, or IGNORE ·
    quality (N, P) float32 in [0, 1]: the soft target of positives, 0 elsewhere
    """

    gt_index: Tensor
    quality: Tensor

    @property
    def positive(self) -> Tensor:
        """(N, P) bool."""
        return self.gt_index >= 0


@dataclass(frozen=True)
class Detections:
    """What is found in one image, best first: boxes (D, 4), scores (D,), classes (D,) int64 in
    0..C-1."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return self.boxes.shape[0]
