"""Joins several training sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.samples import Sample, loaded
from dynamic_atss.types import GroundTruth


class ConcatDataset(Dataset):
    """Holds the images of several data sets in sequence, with the classes of the first set.

    Image ids are 0, 1, 2, ..., because two sets may use the same id. All sets must have the same
    transform and seed. The class has the members of a `TrainingSet`, `statistics` and
    `ground_truth`. Members that belong to one file (`images`, `read`, `entry`) are those of
    `parts`.
    """

    def __init__(self, parts: Sequence[DetectionDataset]) -> None:
        """Reorders the classes of `parts` (one or more data sets) as in the first.

        Raises UserError if the class names differ.
        """
        self.parts: Sequence[DetectionDataset] = list(parts)
        first = self.parts[0]
        self.class_names, self.category_ids = first.class_names, first.category_ids
        for part in self.parts[1:]:
            part.take_order_of(first)
        self.annotations = " + ".join(str(part.annotations) for part in self.parts)
        self.transform, self.seed = first.transform, first.seed
        self.sizes = np.concatenate([part.sizes for part in self.parts])
        self.image_ids = list(range(len(self.sizes)))
        self.statistics = {k: sum(p.statistics[k] for p in self.parts) for k in first.statistics}
        self._ends = np.cumsum([len(part) for part in self.parts])

    @property
    def class_advice(self) -> str:
        return self.parts[0].class_advice

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Loads and transforms a sample.

        Args:
            key: an index, or (index, position in the training stream).
        """
        index, position = key if isinstance(key, tuple) else (key, key)
        part, part_index = self._locate(index)
        return replace(part[part_index, position], image_id=index)

    def load(self, index: int) -> tuple[Tensor, GroundTruth]:
        return loaded(*self._locate(index))

    def ground_truth(self, index: int) -> GroundTruth:
        part, part_index = self._locate(index)
        return part.ground_truth(part_index)

    def path(self, index: int) -> Path:
        part, part_index = self._locate(index)
        return part.path(part_index)

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (image index (A,), class (A,)) of all objects, sorted by image."""
        firsts = [0, *self._ends[:-1].tolist()]
        found = [part.classes_by_image() for part in self.parts]
        images = [
            image_index + first for (image_index, _), first in zip(found, firsts, strict=True)
        ]
        return np.concatenate(images), np.concatenate([classes for _, classes in found])

    def _locate(self, index: int) -> tuple[DetectionDataset, int]:
        """Returns the part that has an image, and the index of the image in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        part = self.parts[number]
        return part, index - int(self._ends[number]) + len(part)
