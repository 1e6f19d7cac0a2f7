"""The ground truth of a batch: which boxes are where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of a batch, packed: boxes of image 0 first, then those of image 1, and so
    on.

    boxes (T, 4) float32 · classes (T,) int64 in 0..C-1 · image (T,) int64 in 0..N-1 ·
    ignore (T,) bool, or None where no box is such: the box is a region in which objects may be that
    nobody has annotated (a crowd), so that it is neither an object nor background. Regions come
    after all objects, so that the place of an object among `objects` is its place here, too.
    convention: what x2 and y2 are, by which transforms and rules measure.

    Raises ValueError: as many flags as boxes are needed.

    >>> import torch
    >>> from dynamic_atss import GroundTruth
    >>> boxes = torch.tensor([[0.0, 0, 9, 9], [4, 4, 20, 12]])
    >>> gt = GroundTruth(boxes, classes=torch.tensor([2, 0]), image=torch.tensor([0, 0]))
    >>> gt[gt.classes == 0].boxes
    tensor([[ 4.,  4., 20., 12.]])
    """

    boxes: Tensor
    classes: Tensor
    image: Tensor
    ignore: Tensor | None = None
    convention: BoxConvention = BoxConvention.LEGACY

    HOST: ClassVar = ("extent", "split", "most")

    def __post_init__(self) -> None:
        if self.ignore is not None and len(self.ignore) != len(self.boxes):
            raise ValueError(
                f"{len(self.ignore)} ignore flags of {len(self.boxes)} boxes: choose boxes by "
                "gt[mask], which takes all fields along"
            )

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, index: Tensor | slice) -> GroundTruth:
        """Those at an index, a mask or a slice."""
        ignore = None if self.ignore is None else self.ignore[index]
        chosen = self.boxes[index], self.classes[index], self.image[index]
        return GroundTruth(*chosen, ignore, self.convention)

    @cached_property
    def split(self) -> int:
        """The number of objects, on the host; the rest are regions."""
        return len(self) if self.ignore is None else len(self) - int(self.ignore.sum())

    @property
    def objects(self) -> GroundTruth:
        """What is to be found, without the regions: all that a rule sees."""
        return self if self.ignore is None else self._part(slice(None, self.split))

    @property
    def regions(self) -> GroundTruth:
        """What is neither an object nor background."""
        return self._part(slice(self.split, None))

    def _part(self, place: slice) -> GroundTruth:
        part = replace(self[place], ignore=None)
        vars(part)["extent"] = self.extent[place]  # known, without a wait for the device
        vars(part)["most"] = self.most
        return part

    @cached_property
    def most(self) -> int:
        """No image has more boxes; on the host. It bounds how many priors are near boxes."""
        return int(self.image.bincount().max()) if len(self) else 0

    @cached_property
    def extent(self) -> Tensor:
        """(T, 2) float64 on the host: width and height of each box. They bound how many priors lie
        in the boxes."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).double().cpu()


def joined(parts: Sequence[GroundTruth]) -> GroundTruth:
    """The boxes of several ground truths as one: the objects of each part, then the regions.

    Raises ValueError: the conventions of the parts differ.
    """
    convention = parts[0].convention
    if any(part.convention is not convention for part in parts):
        raise ValueError("boxes of two conventions cannot be joined: convert one of them first")
    boxes, classes, image = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "classes", "image")
    )
    if all(part.ignore is None for part in parts):
        return GroundTruth(boxes, classes, image, convention=convention)
    ignore = torch.cat([_flags(part) for part in parts])
    packed = GroundTruth(boxes, classes, image, ignore, convention)
    return packed[ignore.int().argsort(stable=True)]


def _flags(gt: GroundTruth) -> Tensor:
    none = torch.zeros(len(gt), dtype=torch.bool, device=gt.boxes.device)
    return none if gt.ignore is None else gt.ignore
