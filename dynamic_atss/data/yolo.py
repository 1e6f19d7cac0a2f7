"""Data sets in YOLO's layout: data.yaml, images/ and labels/, a text file for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.box_kinds import FRACTIONS
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.frames import AS_USUAL
from dynamic_atss.data.header import image_header
from dynamic_atss.data.yolo_labels import Labels
from dynamic_atss.data.yolo_layout import (
    Layout,
    check_labels,
    label_file,
    label_files,
    labels_without_image,
    read_layout,
    split_images,
)
from dynamic_atss.errors import UserError


class YoloDataset(DetectionDataset):
    """`YoloDataset(<data.yaml>, <split>, training=...)`: one split of a data.yaml, as Ultralytics
    lays it out: path, train, val, test (a folder, a list of them, or a text file that lists images)
    and names.

    Image number i in the order of the paths (from 1) has the image id i, and class c the category
    id c + 1. A box is class, centre x, centre y, width, height as fractions of the upright image;
    polygons become boxes. An image without a label file is background.
    """

    box_form = FRACTIONS
    written_as = "yolo:<data.yaml>:<split>"

    def __init__(self, file: str | Path, split: str, *, training: bool, **options: Any) -> None:
        """options: as `DetectionDataset`.

        Raises UserError: something is wrong with a file or a folder, no image usable.
        """
        self.split = split
        self.layout = read_layout(Path(file).expanduser())
        self._outside = options.get("reading", AS_USUAL).outside
        self._files, self._layout_notes = split_images(self.layout, split, outside=self._outside)
        folder = os.path.commonpath([str(image.parent) for image in self._files])
        super().__init__(file, folder or ".", training=training, **options)

    def refuse_outside(self, names: Sequence[str]) -> None:
        """`split_images` knows the folders that the data.yaml names."""

    def read(self, *, need_boxes: bool = False) -> Annotations:
        images = [image for image in self._files if os.path.isfile(image)]
        if len(images) < len(self._files):
            lacking = next(image for image in self._files if not os.path.isfile(image))
            raise UserError(
                f"{lacking}: no such image, but {self.split} of {self.layout.file} lists it "
                f"({len(self._files) - len(images)} of its {len(self._files)} are missing)"
            )
        files, beside = label_files(images)
        if not self._outside:
            check_labels(self.layout.file, [file for file in files if file])
        if need_boxes and not any(files):
            raise UserError(
                f"{label_file(images[0])}: no such label file, nor one for any other of the "
                f"{len(images)} images of {self.split}: put them there (images/ becomes labels/)"
            )
        labels = Labels(len(self.layout.names), self.layout.keypoints)
        for file in files:
            labels.read(file)
        labels.check()
        notes = [*self._layout_notes, *_notes(images, files, beside), *labels.notes()]
        names = [os.path.relpath(image, self.images) for image in images]
        found = _annotations(self.layout, images, names, labels.rows, notes)
        return replace(found, warnings=tuple(_warnings(images, files)))

    @property
    def short_name(self) -> str:
        return f"{self.layout.file.resolve().parent.name}_{self.split}"

    @property
    def class_advice(self) -> str:
        return f"correct 'names' in {self.layout.file}"

    def entry(self, index: int) -> str:
        return str(label_file(self.path(index)))


def _annotations(
    layout: Layout, images: list[Path], names: list[str], rows: list[np.ndarray], notes: list[str]
) -> Annotations:
    # The upright size, as viewers show the picture, is the frame of YOLO's boxes.
    sizes = np.array([image_header(image).upright for image in images], np.int64).reshape(-1, 2)
    image = np.repeat(np.arange(len(images)), [len(table) for table in rows])
    table = np.concatenate([np.zeros((0, 5)), *rows])
    xywh = table[:, 1:] * np.tile(sizes[image, ::-1], 2)
    return Annotations(
        image_ids=np.arange(1, len(images) + 1),
        names=np.array(names, np.str_),
        sizes=sizes,
        class_names=layout.names,
        category_ids=list(range(1, len(layout.names) + 1)),
        xywh=xywh,
        areas=xywh[:, 2] * xywh[:, 3],
        classes=table[:, 0].astype(np.int64),
        image=image,
        crowd=np.zeros(len(table), bool),
        notes=tuple(notes),
    )


def _warnings(images: list[Path], files: list[Path | None]) -> list[str]:
    """A line if label files have no image, as where images were lost, or have another ending."""
    lone = labels_without_image(images, files)
    if not lone:
        return []
    return [
        f"{len(lone)} label files have no image of their name, such as {lone[0]}, and are not "
        "read: add the images, or delete the files"
    ]


def _notes(images: list[Path], files: list[Path | None], beside: int) -> list[str]:
    notes = [f"{beside} label files lie beside their images, not in labels/"] if beside else []
    without = [image for image, file in zip(images, files, strict=True) if file is None]
    if without:
        notes.append(
            f"{len(without)} of {len(images)} images have no label file and are background, such "
            f"as {without[0]} (would be {label_file(without[0])})"
        )
    return notes
