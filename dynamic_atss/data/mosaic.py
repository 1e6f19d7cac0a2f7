"""Joins four training images into a mosaic (Bochkovskiy et al., YOLOv4, 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dynamic_atss.data.crop import Window, cut_boxes, draw_window, scale_boxes
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.data.image import resize, resize_with_pillow
from dynamic_atss.data.samples import Sample, loaded, transformed
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.types import GroundTruth, joined

Part = tuple[Tensor, GroundTruth]
NEAREST_CUT = 0.2  # least distance from the border to the cut, as a fraction of the side (YOLOv4)


class MosaicDataset(Dataset):
    """Turns each image of a training set, with probability `prob`, into a mosaic of four images.

    The image is the first of the four. The three others are drawn from the data set, with
    probabilities proportional to `factors`. A mosaic has the size of its first image, so that
    `sizes` and the aspect-ratio groups stay right. The data set's transform follows. Random numbers
    depend only on (seed, position).

    There are no mosaics from position `stop` in the stream of samples on. The end of the training
    then sees images as the test does. Iteration i takes samples from about position i * batch. A
    sample that waits for others of its aspect-ratio group comes later.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        prob: float,
        *,
        stop: int,
        min_visible: float,
        exact: bool = False,
        factors: np.ndarray | None = None,
    ) -> None:
        """Stores the parameters.

        Args:
            dataset: the training set.
            prob: probability of a mosaic.
            stop: the first position without mosaics.
            min_visible: see `cut_boxes`.
            exact: resizes by Pillow, as the releases do.
            factors: (n,) how often each image is seen in an epoch. None is once each.
        """
        self.dataset, self.prob, self.stop = dataset, prob, stop
        self.min_visible, self.exact = min_visible, exact
        self._cumulative = np.cumsum(np.ones(len(dataset)) if factors is None else factors)
        self.annotations, self.image_ids = dataset.annotations, dataset.image_ids
        self.class_names, self.category_ids = dataset.class_names, dataset.category_ids
        self.sizes, self.seed, self.transform = dataset.sizes, dataset.seed, dataset.transform

    @property
    def class_advice(self) -> str:
        return self.dataset.class_advice

    @property
    def parts(self) -> Sequence[DetectionDataset]:
        return self.dataset.parts

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Loads and transforms a sample.

        Args:
            key: an index, or (index, position in the training stream).
        """
        index, position = key if isinstance(key, tuple) else (key, key)
        rng = np.random.default_rng((self.seed, position))
        image, gt = self.load(index)
        if position < self.stop and rng.random() < self.prob:
            others = map(self.load, self._draw(rng))
            parts = [(image, gt), *others]
            image, gt = mosaic(parts, rng, self.min_visible, self.exact)
        if self.transform is not None:
            image, gt = transformed(self, index, image, gt, rng)
        height, width = self.sizes[index]
        return Sample(image, gt, self.image_ids[index], (int(height), int(width)))

    def load(self, index: int) -> Part:
        """Loads one image, without mosaic and without transform."""
        return loaded(self.dataset, index)

    def path(self, index: int) -> Path:
        """Returns the path of an image file."""
        return self.dataset.path(index)

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (image index (A,), class (A,)) of all objects, sorted by image."""
        return self.dataset.classes_by_image()

    def _draw(self, rng: np.random.Generator) -> list[int]:
        places = rng.random(3) * self._cumulative[-1]
        return np.searchsorted(self._cumulative, places, side="right").tolist()


def mosaic(
    parts: Sequence[Part],
    rng: np.random.Generator,
    min_visible: float,
    exact: bool = False,
) -> Part:
    """Joins four images into one of the size of the first. They meet at a random point.

    Returns the first image if the mosaic would have no box, or a quarter would have no pixel.

    Args:
        parts: four images with their boxes.
        rng: source of random numbers.
        min_visible: see `cut_boxes`.
        exact: resizes by Pillow.
    """
    height, width = parts[0][0].shape[1:]
    if min(height, width) < 2:
        return parts[0]
    quarters = _quarters(height, width, _cut(height, rng), _cut(width, rng))
    canvas = torch.empty((height, width, 3), dtype=torch.uint8).permute(2, 0, 1)
    resize_to = resize_with_pillow if exact else resize
    found = []
    for part, quarter in zip(parts, quarters, strict=True):
        pixels, gt = _cut_out(part, quarter, rng, min_visible)
        quarter.of(canvas).copy_(resize_to(pixels, quarter.height, quarter.width))
        found.append(gt)
    gt = joined(found)
    return (canvas, gt) if len(gt.objects) else parts[0]


def _cut(side: int, rng: np.random.Generator) -> int:
    """Draws the place at which to cut a side, in 1..side - 1."""
    place = round(side * rng.uniform(NEAREST_CUT, 1 - NEAREST_CUT))
    return min(max(place, 1), side - 1)


def _quarters(height: int, width: int, row: int, column: int) -> list[Window]:
    rows, columns = ((0, row), (row, height - row)), ((0, column), (column, width - column))
    return [Window(left, top, h, w) for top, h in rows for left, w in columns]


def _cut_out(part: Part, quarter: Window, rng: np.random.Generator, min_visible: float) -> Part:
    """Cuts the largest window of the quarter's aspect ratio out of an image, at a random place.

    Returns the pixels before the resize to the quarter. Returns the boxes in pixels of the mosaic.
    """
    image, gt = part
    height, width = image.shape[1:]
    shape = quarter.height / quarter.width
    size = max(min(height, round(width * shape)), 1), max(min(width, round(height / shape)), 1)
    window = draw_window(height, width, size, rng)
    new = quarter.height, quarter.width
    origin = gt.boxes.new_tensor([window.left, window.top] * 2)
    moved = scale_boxes(replace(gt, boxes=gt.boxes - origin), size, new)
    kept = cut_boxes(moved, Window(0, 0, *new), min_visible)
    place = gt.boxes.new_tensor([quarter.left, quarter.top] * 2)
    return window.of(image), replace(kept, boxes=kept.boxes + place)
