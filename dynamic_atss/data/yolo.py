"""Reads data sets in YOLO's layout: data.yaml, images/, and labels/ with a text file per image."""

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
from dynamic_atss.data.header import image_header
from dynamic_atss.data.orientation import DEFAULT_READ_OPTIONS
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
    """Reads one split of a data.yaml of Ultralytics.

    It is made by `YoloDataset(<data.yaml>, <split>, training=...)`. The data.yaml has path, names,
    and train, val, test. Each of these three is a folder, a list of folders, or a text file that
    lists images. Image number i in the order of the paths (from 1) has the image id i. Class c has
    the category id c + 1. A box is class, centre x, centre y, width, height as fractions of the
    upright image. Polygons become boxes. Images without a label file are background.
    """

    box_form = FRACTIONS
    written_as = "yolo:<data.yaml>:<split>"

    def __init__(self, file: str | Path, split: str, *, training: bool, **options: Any) -> None:
        """Reads and checks all annotations of a split.

        Args:
            file: the data.yaml.
            split: a key of the data.yaml, such as "train".
            options: as for `DetectionDataset`.

        Raises UserError for a mistake in a file or a folder, and if no image is usable.
        """
        self.split = split
        self.layout = read_layout(Path(file).expanduser())
        self._outside = options.get("reading", DEFAULT_READ_OPTIONS).outside
        self._files, self._layout_notes = split_images(self.layout, split, outside=self._outside)
        folder = os.path.commonpath([str(image.parent) for image in self._files])
        super().__init__(file, folder or ".", training=training, **options)

    def refuse_outside(self, names: Sequence[str]) -> None:
        """Does nothing. `split_images` has checked the names by the folders of the data.yaml."""

    def read(self, *, need_boxes: bool = False) -> Annotations:
        images = [image for image in self._files if os.path.isfile(image)]
        if len(images) < len(self._files):
            missing = next(image for image in self._files if not os.path.isfile(image))
            raise UserError(
                f"{missing}: no such image, but {self.split} of {self.layout.file} lists it "
                f"({len(self._files) - len(images)} of its {len(self._files)} are missing): add "
                "it, or remove the name"
            )
        files, next_to_images = label_files(images)
        if not self._outside:
            check_labels(self.layout.file, [file for file in files if file])
        if need_boxes and not any(files):
            raise UserError(
                f"{label_file(images[0])}: no such label file, and none for the other images of "
                f"{self.split} ({len(images)} in all): put them there (images/ becomes labels/)"
            )
        labels = Labels(len(self.layout.names), self.layout.keypoints)
        for file in files:
            labels.read(file)
        labels.check()
        notes = [*self._layout_notes, *_notes(images, files, next_to_images), *labels.notes()]
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
    # YOLO's boxes belong to the upright picture, as viewers show it.
    sizes = np.array([image_header(image).upright for image in images], np.int64).reshape(-1, 2)
    image_index = np.repeat(np.arange(len(images)), [len(table) for table in rows])
    table = np.concatenate([np.zeros((0, 5)), *rows])
    xywh = table[:, 1:] * np.tile(sizes[image_index, ::-1], 2)
    return Annotations(
        image_ids=np.arange(1, len(images) + 1),
        names=np.array(names, np.str_),
        sizes=sizes,
        class_names=layout.names,
        category_ids=list(range(1, len(layout.names) + 1)),
        xywh=xywh,
        areas=xywh[:, 2] * xywh[:, 3],
        classes=table[:, 0].astype(np.int64),
        image_index=image_index,
        crowd=np.zeros(len(table), bool),
        notes=tuple(notes),
    )


def _warnings(images: list[Path], files: list[Path | None]) -> list[str]:
    """Returns a warning of label files without an image, for the log."""
    unmatched = labels_without_image(images, files)
    if not unmatched:
        return []
    return [
        f"{len(unmatched)} label files have no image of their name, such as {unmatched[0]}, and "
        "are not read: add the images, or delete the files"
    ]


def _notes(images: list[Path], files: list[Path | None], next_to_images: int) -> list[str]:
    notes = []
    if next_to_images:
        notes.append(f"{next_to_images} label files are next to their images, not in labels/")
    without = [image for image, file in zip(images, files, strict=True) if file is None]
    if without:
        notes.append(
            f"{len(without)} of {len(images)} images have no label file and are background, such "
            f"as {without[0]} (would be {label_file(without[0])})"
        )
    return notes
