"""The boxes of a data set, in a few arrays, which forked workers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.types import GroundTruth


@dataclass(frozen=True)
class PackedBoxes:
    """boxes (B, 4) float32 xyxy, classes (B,) int64, region (B,) bool: image by image, and in each
    image the objects, then the regions · first, last (n,) int64: where those of an image lie
    """

    boxes: np.ndarray
    classes: np.ndarray
    region: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(
        cls, content: Annotations, boxes: np.ndarray, kept: np.ndarray, images: np.ndarray
    ) -> PackedBoxes:
        """boxes (A, 4) of the annotations, cleaned · kept (A,) bool · images (n,) bool, which stay:
        the boxes of the others are left out, too"""
        kept = kept & images[content.image]
        order = np.lexsort((content.crowd, content.image))
        order = order[kept[order]]
        counts = np.bincount(content.image[order], minlength=len(images))
        ends = np.cumsum(counts)
        spans = (ends - counts)[images], ends[images]
        return cls(boxes[order], content.classes[order], content.crowd[order], *spans)

    @property
    def objects(self) -> int:
        """How many are no regions."""
        return int((~self.region).sum())

    def of_image(self, index: int, convention: BoxConvention, *, regions: bool) -> GroundTruth:
        """regions: whether any box may be one"""
        span = slice(self.first[index], self.last[index])
        boxes = torch.from_numpy(self.boxes[span].copy())
        classes = torch.from_numpy(self.classes[span].copy())
        ignore = torch.from_numpy(self.region[span].copy()) if regions else None
        return GroundTruth(boxes, classes, torch.zeros_like(classes), ignore, convention)

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """(index of the image (A,), class (A,)) of every object, image by image."""
        image = np.repeat(np.arange(len(self.first)), self.last - self.first)
        return image[~self.region], self.classes[~self.region]

    def renumbered(self, places: Sequence[int]) -> PackedBoxes:
        """With another number for each class."""
        return replace(self, classes=np.array(places, np.int64)[self.classes])
