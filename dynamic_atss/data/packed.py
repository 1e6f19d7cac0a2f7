"""Stores the boxes of a data set in a few arrays, which forked workers share."""

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
    """Holds the B boxes of n images, sorted by image. In each image, objects come before regions.

    Attributes:
        boxes: (B, 4) float32 xyxy.
        classes: (B,) int64.
        region: (B,) bool, True for regions to ignore.
        first, last: (n,) int64, the slice of each image's boxes.
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
        """Packs the boxes to keep.

        Args:
            content: the annotations of all images.
            boxes: (A, 4) the cleaned boxes.
            kept: (A,) bool, True for boxes to keep.
            images: (n,) bool, True for images to keep.
        """
        kept = kept & images[content.image_index]
        order = np.lexsort((content.crowd, content.image_index))
        order = order[kept[order]]
        counts = np.bincount(content.image_index[order], minlength=len(images))
        ends = np.cumsum(counts)
        spans = (ends - counts)[images], ends[images]
        return cls(boxes[order], content.classes[order], content.crowd[order], *spans)

    @property
    def objects(self) -> int:
        """Returns the number of boxes that are not regions."""
        return int((~self.region).sum())

    def of_image(self, index: int, convention: BoxConvention, *, regions: bool) -> GroundTruth:
        """Returns the boxes of an image. Marks regions to ignore if `regions` is True."""
        span = slice(self.first[index], self.last[index])
        boxes = torch.from_numpy(self.boxes[span].copy())
        classes = torch.from_numpy(self.classes[span].copy())
        ignore = torch.from_numpy(self.region[span].copy()) if regions else None
        return GroundTruth(boxes, classes, torch.zeros_like(classes), ignore, convention)

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (image index (A,), class (A,)) of all objects, sorted by image."""
        image_index = np.repeat(np.arange(len(self.first)), self.last - self.first)
        return image_index[~self.region], self.classes[~self.region]

    def renumbered(self, new_indices: Sequence[int]) -> PackedBoxes:
        """Returns a copy in which class c is replaced by new_indices[c]."""
        return replace(self, classes=np.array(new_indices, np.int64)[self.classes])
