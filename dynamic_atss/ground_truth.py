"""Stores the ground truth of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.moved import renamed


@dataclass(frozen=True)
class GroundTruth:
    """Holds the boxes of a batch: objects of image 0, 1, ..., then regions to ignore.

    A region may contain objects without annotation (a crowd), so that it is neither an object nor
    background. Regions come last, so that an object has the same index here and in `objects`.

    Attributes:
        boxes: (T, 4) float32 xyxy.
        classes: (T,) int64 in 0..C-1.
        image_index: (T,) int64 in 0..N-1, the image of each box.
        ignore: (T,) bool, True for regions; None without regions.
        convention: the meaning of x2 and y2.

    Raises:
        ValueError: the number of flags differs from the number of boxes.

    >>> import torch
    >>> from dynamic_atss import GroundTruth
    >>> boxes = torch.tensor([[0.0, 0, 9, 9], [4, 4, 20, 12]])
    >>> gt = GroundTruth(boxes, classes=torch.tensor([2, 0]), image_index=torch.tensor([0, 0]))
    >>> gt[gt.classes == 0].boxes
    tensor([[ 4.,  4., 20., 12.]])
    """

    boxes: Tensor
    classes: Tensor
    image_index: Tensor
    ignore: Tensor | None = None
    convention: BoxConvention = BoxConvention.LEGACY

    HOST: ClassVar = ("extent", "object_count", "max_boxes")
    image = renamed("image", "image_index")

    def __post_init__(self) -> None:
        if self.ignore is not None and len(self.ignore) != len(self.boxes):
            raise ValueError(
                f"{len(self.ignore)} ignore flags of {len(self.boxes)} boxes: choose boxes by "
                "gt[mask], which selects in all fields"
            )

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, index: Tensor | slice) -> GroundTruth:
        """Selects boxes by an index, a mask or a slice."""
        ignore = None if self.ignore is None else self.ignore[index]
        return GroundTruth(
            self.boxes[index],
            self.classes[index],
            self.image_index[index],
            ignore,
            self.convention,
        )

    @cached_property
    def object_count(self) -> int:
        """Counts the objects, on the host. The other boxes are regions."""
        return len(self) if self.ignore is None else len(self) - int(self.ignore.sum())

    @property
    def objects(self) -> GroundTruth:
        """Gives the objects, without regions. Assignment rules get only these."""
        return self if self.ignore is None else self._part(slice(None, self.object_count))

    @property
    def regions(self) -> GroundTruth:
        """Gives the regions, which are neither objects nor background."""
        return self._part(slice(self.object_count, None))

    def _part(self, place: slice) -> GroundTruth:
        part = replace(self[place], ignore=None)
        vars(part)["extent"] = self.extent[place]  # avoids a wait for the device
        vars(part)["max_boxes"] = self.max_boxes
        return part

    @cached_property
    def max_boxes(self) -> int:
        """Gives the largest number of boxes in an image, on the host.

        It bounds the number of priors near boxes.
        """
        return int(self.image_index.bincount().max()) if len(self) else 0

    @cached_property
    def extent(self) -> Tensor:
        """Gives width and height of each box, (T, 2) float64 on the host.

        They bound the number of priors in boxes.
        """
        return (self.boxes[:, 2:] - self.boxes[:, :2]).double().cpu()


def joined(parts: Sequence[GroundTruth]) -> GroundTruth:
    """Joins several ground truths: the objects of all parts first, then the regions.

    Raises:
        ValueError: the conventions of the parts differ.
    """
    convention = parts[0].convention
    if any(part.convention is not convention for part in parts):
        raise ValueError("boxes of two conventions cannot be joined: convert one of them first")
    packed = GroundTruth(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.classes for part in parts]),
        torch.cat([part.image_index for part in parts]),
        convention=convention,
    )
    if all(part.ignore is None for part in parts):
        return packed
    ignore = torch.cat([_flags(part) for part in parts])
    return replace(packed, ignore=ignore)[ignore.int().argsort(stable=True)]


def _flags(gt: GroundTruth) -> Tensor:
    none = torch.zeros(len(gt), dtype=torch.bool, device=gt.boxes.device)
    return none if gt.ignore is None else gt.ignore
