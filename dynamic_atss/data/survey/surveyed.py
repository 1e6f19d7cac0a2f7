"""A data set as a survey looks at it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.frames import AS_USUAL, Reading
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.errors import UserError

Header = ImageHeader | UserError  # what a file's header says, or why it says nothing


@dataclass(frozen=True)
class Surveyed:
    """where, the annotation file · folder of the images · content of all its images, with or
    without boxes · headers, one for each image, or () where they were not read
    """

    where: str
    folder: Path
    content: Annotations
    headers: Sequence[Header] = ()
    reading: Reading = AS_USUAL

    @classmethod
    def of(cls, dataset: DetectionDataset, headers: Sequence[Header] = ()) -> Surveyed:
        where = str(dataset.annotations)
        return cls(where, dataset.images, dataset.content, headers, dataset.reading)

    @property
    def names(self) -> list[str]:
        return self.content.names.tolist()

    def files(self) -> list[str]:
        """The full path of each image, written in one way."""
        folder = os.path.realpath(self.folder)
        return [os.path.normpath(os.path.join(folder, name)) for name in self.names]

    def image_of(self, box: int) -> str:
        """The file that an annotation belongs to, as messages show it."""
        return repr(str(self.content.names[self.content.image[box]]))

    def objects(self) -> np.ndarray:
        """(A,) bool: the boxes that are no regions (crowds, difficult and ignored ones) and have
        an extent."""
        xywh = self.content.xywh
        extent = np.isfinite(xywh).all(1) & (np.nan_to_num(xywh[:, 2:]) > 0).all(1)
        return extent & ~self.content.crowd

    def lying(self) -> np.ndarray:
        """(n,) bool: the images whose size here is that of the stored pixels, where their EXIF
        orientation exchanges the sides. None where the headers were not read."""
        found = np.zeros(len(self.content.sizes), bool)
        for i, header in enumerate(self.headers):
            if isinstance(header, ImageHeader) and header.orientation >= 5:
                found[i] = tuple(self.content.sizes[i]) == header[:2] != header.upright
        return found
