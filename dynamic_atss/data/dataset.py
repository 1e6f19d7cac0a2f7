"""Defines the base class of detection data sets."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.box_kinds import PIXELS, BoxForm, box_warning, upright_boxes
from dynamic_atss.data.class_names import check_known, check_same, unused_classes
from dynamic_atss.data.cleaning import check_files, clean_boxes, cleaning_notes, complete_sizes
from dynamic_atss.data.depth import check_bits
from dynamic_atss.data.file_names import with_slashes
from dynamic_atss.data.image import read_image
from dynamic_atss.data.orientation import (
    DEFAULT_READ_OPTIONS,
    Orientations,
    ReadOptions,
    find_orientations,
)
from dynamic_atss.data.packed import PackedBoxes
from dynamic_atss.data.path_check import check_inside
from dynamic_atss.data.samples import Sample, Transform, loaded, name_of, transformed
from dynamic_atss.errors import UserError
from dynamic_atss.types import GroundTruth

__all__ = [
    "DetectionDataset",
    "Sample",
    "Transform",
    "loaded",
    "name_of",
    "transformed",
]
logger = logging.getLogger(__name__)


class DetectionDataset(Dataset, ABC):
    """Holds images with their boxes, sorted by image id.

    Boxes become xyxy with x2 = x + w (LEGACY: x + w - 1) and are clipped to the image. Boxes
    without extent are dropped. Crowds, difficult and ignored boxes are dropped, or become regions
    to ignore with `keep_crowds` (`GroundTruth.ignore`). Training sets drop images without objects,
    unless `keep_empty`. A few arrays, which forked workers share, hold all annotations.

    Attributes:
        annotations: the annotation file.
        images: the image folder.
        image_ids: of the kept images.
        class_names, category_ids: in the file's order, unless they are reordered. The id is None
            for a class of the model that the data set lacks.
        sizes: (n, 2) int64 height, width of the images as they are read (see `data.orientation`).
        statistics: reason -> number of boxes or images that were dropped or clipped.
        content: the annotations of all images, with missing sizes read from the image files.
        exif: "apply" or "ignore". It says how to read more pictures of the same source.
        voc_scores: True if PASCAL VOC's scores are computed in addition to COCO's.
    """

    voc_scores = False
    box_form: BoxForm = PIXELS  # how the files write boxes
    written_as = "<format>:<annotations>:<image folder>"  # the form of its names, for messages

    @classmethod
    def from_name(cls, name: str, **options: Any) -> DetectionDataset:
        """Opens the data set of a name in DATASETS.

        Args:
            name: the name without its format.
            options: as for __init__.

        Raises UserError if a part of the name is missing.
        """
        parts = cls.parts_of(name)
        if not all(parts):
            raise UserError(f"data set '{name}': write it as {cls.written_as}")
        return cls(*map(with_slashes, parts), **options)

    @classmethod
    def parts_of(cls, name: str) -> tuple[str, str]:
        """Splits a name at its last colon into the first two arguments of __init__."""
        first, _, second = name.rpartition(":")
        return first, second

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        *,
        training: bool,
        keep_empty: bool = False,
        transform: Transform | None = None,
        seed: int = 0,
        convention: BoxConvention = BoxConvention.LEGACY,
        keep_crowds: bool = False,
        reading: ReadOptions = DEFAULT_READ_OPTIONS,
    ) -> None:
        """Reads and checks all annotations.

        Args:
            annotations: the annotation file.
            images: the image folder.
            training: True for a training set, which needs boxes and drops images without objects.
            keep_empty: keeps images without objects in a training set.
            transform: is applied to each sample, with random numbers of `seed`.
            convention: the meaning of x2 and y2.
            keep_crowds: makes crowds regions to ignore. False drops them.
            reading: how to read the image files.

        Raises UserError for a mistake in the file or the folder, and if no image is usable.
        """
        self.annotations = Path(annotations).expanduser()
        self.images = Path(images).expanduser()
        self.transform, self.seed, self.keep_crowds = transform, seed, keep_crowds
        self.convention, self.reading = convention, reading
        content = self.read(need_boxes=training)
        self.class_names = content.class_names
        self.category_ids: list[int | None] = [*content.category_ids]
        content = check_files(self.annotations, self.images, content)
        self.refuse_outside(content.names.tolist())
        self._names, self.image_ids = content.names, content.image_ids.tolist()
        orientations = self._find_orientations(content)
        self.content = content = replace(content, sizes=orientations.sizes)
        sizes, self.exif = orientations.sizes[content.image_index], orientations.exif
        boxes, kept, self.statistics = clean_boxes(
            content.xywh, sizes, content.crowd, convention, keep_crowds
        )
        objects = np.bincount(
            content.image_index[kept & ~content.crowd], minlength=len(content.sizes)
        )
        usable = (objects > 0) | (keep_empty or not training)
        self.statistics["images_without_boxes"] = int((~usable).sum())
        suspicion = _suspicion(content, orientations.sideways, self.box_form)
        if training and not usable.any():
            raise UserError(
                f"{self.annotations}: none of its {len(usable)} images has a usable box: "
                f"{suspicion or _advice(content)}"
            )
        self._packed = PackedBoxes.of(content, boxes, kept, usable)
        self._names, self.sizes = content.names[usable], content.sizes[usable]
        self._orientation = orientations.orientation[usable]
        self.image_ids = content.image_ids[usable].tolist()
        self._log(content, suspicion, training)

    @abstractmethod
    def read(self, *, need_boxes: bool = False) -> Annotations:
        """Reads the annotation files.

        Args:
            need_boxes: True if files without annotations are an error.

        Raises UserError for a mistake in the files.
        """

    def refuse_outside(self, names: Sequence[str]) -> None:
        """Raises UserError if an image file lies outside of the image folder."""
        if not self.reading.outside:
            check_inside(self.annotations, self.images, names)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Loads and transforms a sample.

        The transform's random numbers depend only on (seed, position), so that a resumed run draws
        the same numbers with any number of workers.

        Args:
            key: an index, or (index, position in the training stream).
        """
        index, position = key if isinstance(key, tuple) else (key, key)
        image, gt = loaded(self, index)
        original_size = (int(self.sizes[index][0]), int(self.sizes[index][1]))
        if self.transform is not None:
            rng = np.random.default_rng((self.seed, position))
            image, gt = transformed(self, index, image, gt, rng)
        return Sample(image, gt, self.image_ids[index], original_size)

    def load(self, index: int) -> tuple[Tensor, GroundTruth]:
        """Loads an image (3, H, W) uint8 and its boxes, without the transform.

        Raises UserError if the file is missing, cannot be decoded, or has another size than
        annotated.
        """
        path, reading = self.path(index), self.reading
        image = read_image(
            path,
            orientation=int(self._orientation[index]),
            max_pixels=reading.max_pixels,
            bits=reading.bits,
        )
        found, given = tuple(image.shape[1:]), tuple(self.sizes[index])
        if found != given:
            raise self._wrong_size(index, found, given, self._orientation[index])
        return image, self.ground_truth(index)

    def _find_orientations(self, content: Annotations) -> Orientations:
        """Reads the sizes of the images. Raises UserError if one differs from the annotations."""
        given = np.all(content.sizes > 0, axis=1)
        if not given.all():
            text = "%s: %d of %d images have no size in it; the sizes are read from the image files"
            logger.info(text, self.annotations, (~given).sum(), len(given))
        if self.reading.as_stored:
            sizes = complete_sizes(content, self.images)
            return Orientations(sizes, np.ones(len(sizes), np.uint8), np.zeros(len(sizes), bool))
        source, names = str(self.annotations), content.names.tolist()
        orientations, headers = find_orientations(
            content.sizes, self.images, names, self.reading, source
        )
        wrong = np.flatnonzero(given & (content.sizes != orientations.sizes).any(axis=1))
        if len(wrong):
            i = int(wrong[0])
            pair = orientations.sizes[i], content.sizes[i]
            raise self._wrong_size(i, *pair, orientations.orientation[i], len(wrong) - 1)
        paths = [self.images / name for name in names]
        check_bits(paths, headers, self.reading.bits, source)
        return orientations

    def _wrong_size(
        self, index: int, found: Sequence[int], given: Sequence[int], turn: int, others: int = 0
    ) -> UserError:
        frame = f"turned by its EXIF orientation {turn}" if turn > 1 else "as stored"
        count = f" ({others} other images differ as well)" if others else ""
        return UserError(
            f"{self.path(index)}: {found[1]} x {found[0]} pixels {frame} (INPUT.EXIF "
            f"{self.reading.exif}), but {self.entry(index)} says {given[1]} x {given[0]}{count}: "
            "correct width and height there, or replace the image file"
        )

    def ground_truth(self, index: int) -> GroundTruth:
        """Returns the boxes of an image, in pixels of its file. Does not read the file."""
        return self._packed.of_image(index, self.convention, regions=self.keep_crowds)

    def path(self, index: int) -> Path:
        """Returns the path of an image file."""
        return self.images / str(self._names[index])

    def entry(self, index: int) -> str:
        """Returns the name of an image's annotation entry, for messages."""
        return f"image id {self.image_ids[index]} of {self.annotations}"

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (image index (A,), class (A,)) of all objects, sorted by image."""
        return self._packed.classes_by_image()

    @property
    def parts(self) -> Sequence[DetectionDataset]:
        """Returns the data sets that this one consists of, which is only itself."""
        return [self]

    @property
    def short_name(self) -> str:
        """Returns the name of the folder for the scores of this data set."""
        return self.annotations.stem

    @property
    def class_advice(self) -> str:
        """Returns the advice of messages on how to add a missing class."""
        return "correct its name in the categories, or add it there"

    def take_order_of(self, first: DetectionDataset) -> None:
        """Reorders the classes as in another data set. Each class keeps its category id.

        Raises UserError if the class names differ.
        """
        if self.class_names == first.class_names:
            return
        check_same(first, self)
        self.reorder_classes(first.class_names)

    def take_classes(self, class_names: Sequence[str]) -> None:
        """Replaces the classes by those of a model, matched by name, to test the model.

        Classes that the data set lacks get the category id None. Raises UserError if the data set
        has boxes of a class that the model lacks.
        """
        if self.class_names == list(class_names):
            return
        with_boxes = {self.class_names[c] for c in set(self._packed.classes.tolist())}
        check_known(self.annotations, self.class_names, with_boxes, class_names)
        self.reorder_classes(class_names)

    def reorder_classes(self, class_names: Sequence[str]) -> None:
        """Replaces the list of classes. The new list must have all classes that have boxes."""
        id_of = dict(zip(self.class_names, self.category_ids, strict=True))
        index_of = {name: i for i, name in enumerate(class_names)}
        new_indices = [index_of.get(name, -1) for name in self.class_names]
        self._packed = self._packed.renumbered(new_indices)
        self.class_names = list(class_names)
        self.category_ids = [id_of.get(name) for name in class_names]

    def _log(self, content: Annotations, suspicion: str, training: bool) -> None:
        counts = f"{self.annotations}: {len(self)} images, {self._packed.objects} boxes"
        notes = cleaning_notes(
            self.statistics, content.flagged, content.missing_areas, self.keep_crowds
        )
        logger.info("%s", ". ".join([counts, *notes]))
        unused = unused_classes(content) if training else ""  # the survey gives advice on them
        for note in filter(None, [*content.notes, unused]):
            logger.info("%s: %s", self.annotations, note)
        for warning in filter(None, [*content.warnings, suspicion]):
            logger.warning("%s: %s", self.annotations, warning)


def _suspicion(content: Annotations, sideways: np.ndarray, form: BoxForm) -> str:
    """Says why the boxes in general look wrong, with advice. Returns "" if they look right."""
    sizes = content.sizes[content.image_index]
    count, found, advice = upright_boxes(content.xywh, sizes, sideways[content.image_index])
    return f"{found}: {advice}" if count else box_warning(content.xywh, sizes, content.areas, form)


def _advice(content: Annotations) -> str:
    """Says how to correct a data set without a usable box."""
    if len(content.crowd) and content.crowd.all():
        return (
            f"all its {len(content.crowd)} boxes are marked as crowd, difficult or ignored and are "
            "not trained on: correct the marks"
        )
    return "check the boxes, or set DATASETS.KEEP_EMPTY True"
