"""Several training sets as one."""

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
    """The images of several data sets, one set after the other, with the classes of the first.

    Ids of images may be there in several sets: here they are the places 0, 1, 2, ... The sets are
    to have the same transform and the same seed, which are the whole's. It has the members of a
    `TrainingSet`, and `statistics`, `ground_truth` and `path`; what belongs to one file alone
    (`images`, `read`, `entry`) the `parts` have.
    """

    def __init__(self, parts: Sequence[DetectionDataset]) -> None:
        """parts: one or more; their classes are brought into the first's order.

        Raises UserError: the names of the classes are not the same.
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
        """`key`: index, or (index, position in the endless training stream)."""
        index, position = key if isinstance(key, tuple) else (key, key)
        part, own = self._place(index)
        return replace(part[own, position], image_id=index)

    def load(self, index: int) -> tuple[Tensor, GroundTruth]:
        part, own = self._place(index)
        return loaded(part, own)

    def ground_truth(self, index: int) -> GroundTruth:
        part, own = self._place(index)
        return part.ground_truth(own)

    def path(self, index: int) -> Path:
        part, own = self._place(index)
        return part.path(own)

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """(index of the image (A,), class (A,)) of every box, image by image."""
        firsts = [0, *self._ends[:-1].tolist()]
        found = [part.classes_by_image() for part in self.parts]
        images = [image + first for (image, _), first in zip(found, firsts, strict=True)]
        return np.concatenate(images), np.concatenate([classes for _, classes in found])

    def _place(self, index: int) -> tuple[DetectionDataset, int]:
        """The part that holds an image, and the image's index there."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = int(np.searchsorted(self._ends, index, side="right"))
        part = self.parts[number]
        return part, index - int(self._ends[number]) + len(part)
