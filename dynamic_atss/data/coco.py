"""Detection data sets in COCO's format."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dynamic_atss.data.annotations import Annotations, read_annotations
from dynamic_atss.data.image import image_size, read_image
from dynamic_atss.errors import UserError
from dynamic_atss.types import GroundTruth

Transform = Callable[[Tensor, GroundTruth, np.random.Generator], tuple[Tensor, GroundTruth]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One image: image (3, H, W) uint8 RGB · gt, all of image 0 · image_id, the data set's own ·
    original_size (height, width) of the file.
    """

    image: Tensor
    gt: GroundTruth
    image_id: int
    original_size: tuple[int, int]


class CocoDataset(Dataset):
    """Images and their boxes, in ascending order of image ids.

    Boxes become xyxy with x2 = x + max(w - 1, 0), are clipped to [0, W - 1] and dropped without
    extent; crowds are dropped. For training, images without a box that remains are dropped, too,
    unless `keep_empty`. All annotations lie in a few arrays, which forked workers share.

    image_ids, of the kept images · class_names and category_ids, in the file's order ·
    sizes (n, 2) int64 height, width · statistics, how much was dropped or clipped and why
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path,
        *,
        training: bool,
        keep_empty: bool = False,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        """Raises UserError: something is wrong with the file or the folder, no image usable."""
        self.annotations, self.images = Path(annotations), Path(images)
        self.transform, self.seed = transform, seed
        content = read_annotations(self.annotations, need_boxes=training)
        self.class_names, self.category_ids = content.class_names, content.category_ids
        _check_files(self.annotations, self.images, content)
        sizes = _complete_sizes(content, self.images)
        boxes, kept, self.statistics = clean_boxes(
            content.xywh, sizes[content.image], content.crowd
        )
        counts = np.bincount(content.image[kept], minlength=len(sizes))
        usable = np.ones(len(sizes), bool) if keep_empty or not training else counts > 0
        self.statistics["images_without_boxes"] = int((~usable).sum())
        if training and not usable.any():
            raise UserError(
                f"{self.annotations}: none of its {len(sizes)} images has a usable box: "
                "check the boxes, or set DATASETS.KEEP_EMPTY True"
            )
        self._boxes = boxes[kept]
        self._classes = content.classes[kept]
        # Boxes are sorted by image, and dropped images have none: the others' ends remain right.
        ends = np.cumsum(counts)
        self._first, self._last = (ends - counts)[usable], ends[usable]
        self._names = content.names[usable]
        self.sizes = sizes[usable]
        self.image_ids: list[int] = content.image_ids[usable].tolist()
        self._log()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """`key`: index, or (index, position in the endless training stream).

        The transform's random numbers depend on (seed, position) alone, so that a resumed run
        draws the same ones whatever the number of workers.
        """
        index, position = key if isinstance(key, tuple) else (key, key)
        image, gt = self.load(index)
        original_size = (int(self.sizes[index][0]), int(self.sizes[index][1]))
        if self.transform is not None:
            rng = np.random.default_rng((self.seed, position))
            image, gt = self.transform(image, gt, rng)
        return Sample(image, gt, self.image_ids[index], original_size)

    def load(self, index: int) -> tuple[Tensor, GroundTruth]:
        """The image (3, H, W) uint8 and its boxes before any transform.

        Raises UserError: image missing, undecodable, or of another size than the annotations say.
        """
        path = self.path(index)
        image = read_image(path)
        height, width = self.sizes[index]
        if image.shape[1:] != (height, width):
            raise UserError(
                f"{path}: {image.shape[2]} x {image.shape[1]} pixels (EXIF orientation ignored), "
                f"but image id {self.image_ids[index]} of {self.annotations} says "
                f"{width} x {height}: correct width and height there, or replace the file"
            )
        return image, self.ground_truth(index)

    def ground_truth(self, index: int) -> GroundTruth:
        """The boxes of one image in pixels of its file, without reading it."""
        span = slice(self._first[index], self._last[index])
        boxes = torch.from_numpy(self._boxes[span].copy())
        classes = torch.from_numpy(self._classes[span].copy())
        return GroundTruth(boxes, classes, torch.zeros(len(classes), dtype=torch.int64))

    def path(self, index: int) -> Path:
        """The image file."""
        return self.images / str(self._names[index])

    def _log(self) -> None:
        """One line: what is there, and what was dropped or clipped, if anything was."""
        names = {
            "images_without_boxes": "dropped %d images without boxes",
            "crowd": "dropped %d crowd boxes",
            "invalid": "dropped %d invalid boxes (NaN, infinite, zero or negative size)",
            "tiny": "dropped %d boxes of one pixel or less",
            "outside": "dropped %d boxes outside the image",
            "clipped": "clipped %d boxes",
        }
        notes = [text % self.statistics[k] for k, text in names.items() if self.statistics[k]]
        boxes = int((self._last - self._first).sum())
        found = f"{self.annotations}: {len(self)} images, {boxes} boxes"
        logger.info("%s", "; ".join([found, *notes]))


def clean_boxes(
    xywh: np.ndarray, sizes: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Boxes of a COCO file -> boxes to train on.

    xywh (A, 4) · sizes (A, 2) height, width of each box's image · crowd (A,) bool
    -> xyxy (A, 4) float32 clipped to [0, W - 1] x [0, H - 1], kept (A,) bool, counts by reason
    """
    valid = np.isfinite(xywh).all(axis=1) & (np.nan_to_num(xywh[:, 2:]) > 0).all(axis=1)
    xy, wh = np.where(valid[:, None], xywh, 0.0)[:, :2], np.where(valid[:, None], xywh, 0.0)[:, 2:]
    raw = np.concatenate([xy, xy + np.maximum(wh - 1, 0)], axis=1)
    boxes = np.clip(raw, 0, np.tile(sizes[:, ::-1] - 1, 2))
    large = (wh > 1).all(axis=1)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    kept = ~crowd & valid & large & inside
    counts = {
        "crowd": crowd,
        "invalid": ~crowd & ~valid,
        "tiny": ~crowd & valid & ~large,
        "outside": ~crowd & valid & large & ~inside,
        "clipped": kept & (boxes != raw).any(axis=1),
    }
    return boxes.astype(np.float32), kept, {k: int(v.sum()) for k, v in counts.items()}


def _complete_sizes(content: Annotations, folder: Path) -> np.ndarray:
    """(n, 2) height, width; what the annotations lack is read from the image files' headers."""
    sizes = content.sizes.copy()
    for i in np.flatnonzero((sizes == 0).any(axis=1)):
        sizes[i] = image_size(folder / str(content.names[i]))
    return sizes


def _check_files(annotations: Path, folder: Path, content: Annotations) -> None:
    """Every image is there: told before the training starts, by listing each folder once."""
    names = content.names.tolist()
    if "" in names:
        unnamed = content.image_ids[names.index("")]
        raise UserError(f"{annotations}: image id {unnamed} has no file_name: add it")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder: check the path")
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        head, tail = os.path.split(name)
        wanted[head].append(tail)
    missing = []
    for head, tails in wanted.items():
        directory = folder / head
        present = set(os.listdir(directory)) if directory.is_dir() else set()
        missing += [os.path.join(head, tail) for tail in tails if tail not in present]
    if missing:
        raise UserError(
            f"{folder / missing[0]}: no such image ({len(missing)} of the {len(names)} that "
            f"{annotations} names are missing): check the image folder"
        )
