"""Defines the data of a data set that a survey uses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.orientation import DEFAULT_READ_OPTIONS, ReadOptions
from dynamic_atss.errors import UserError

Header = ImageHeader | UserError  # a file's header, or why it cannot be read


@dataclass(frozen=True)
class SurveyInput:
    """Holds the annotations and headers of a data set.

    Attributes:
        where: the annotation file.
        folder: the image folder.
        content: the annotations of all images, with or without boxes.
        headers: one header for each image, or () if they were not read.
        reading: how to read the image files.
    """

    where: str
    folder: Path
    content: Annotations
    headers: Sequence[Header] = ()
    reading: ReadOptions = DEFAULT_READ_OPTIONS

    @classmethod
    def of(cls, dataset: DetectionDataset, headers: Sequence[Header] = ()) -> SurveyInput:
        where = str(dataset.annotations)
        return cls(where, dataset.images, dataset.content, headers, dataset.reading)

    @property
    def names(self) -> list[str]:
        return self.content.names.tolist()

    def files(self) -> list[str]:
        """Returns the full, normalised path of each image."""
        folder = os.path.realpath(self.folder)
        return [os.path.normpath(os.path.join(folder, name)) for name in self.names]

    def image_of(self, box: int) -> str:
        """Returns the quoted file name of a box's image, for a message."""
        return repr(str(self.content.names[self.content.image_index[box]]))

    def objects(self) -> np.ndarray:
        """Returns (A,) bool, True for boxes with an extent that are not crowds.

        Crowds include difficult and ignored boxes.
        """
        xywh = self.content.xywh
        extent = np.isfinite(xywh).all(1) & (np.nan_to_num(xywh[:, 2:]) > 0).all(1)
        return extent & ~self.content.crowd

    def sideways(self) -> np.ndarray:
        """Returns (n,) bool, True for images whose EXIF orientation exchanges the annotated sides.

        The annotated size is then that of the stored picture. All are False if the headers were not
        read.
        """
        found = np.zeros(len(self.content.sizes), bool)
        for i, header in enumerate(self.headers):
            if isinstance(header, ImageHeader) and header.orientation >= 5:
                found[i] = tuple(self.content.sizes[i]) == header[:2] != header.upright
        return found
