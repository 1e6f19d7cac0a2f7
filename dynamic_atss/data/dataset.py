"""Detection data sets: images and their boxes, whatever file they were read from."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.cleaning import check_files, clean_boxes, complete_sizes
from dynamic_atss.data.image import read_image
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


class TrainingSet(Protocol):
    """What a loader and a run read of a data set, be it one, several joined, or with mosaics.

    The members are those of `DetectionDataset`.
    """

    class_names: list[str]
    category_ids: list[int]
    image_ids: list[int]
    sizes: np.ndarray
    transform: Transform | None
    seed: int

    @property
    def annotations(self) -> Path | str: ...

    @property
    def class_mend(self) -> str: ...

    @property
    def parts(self) -> Sequence[DetectionDataset]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: int | tuple[int, int]) -> Sample: ...

    def load(self, index: int) -> tuple[Tensor, GroundTruth]: ...

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]: ...


class DetectionDataset(Dataset, ABC):
    """Images and their boxes, in ascending order of image ids.

    Boxes become xyxy with x2 = x + w (LEGACY: x + w - 1), are clipped to the image and dropped
    without extent; crowds, difficult and ignored ones are dropped or, with `keep_crowds`, are
    regions to ignore (`GroundTruth.ignore`). For training, images without an object that remains
    are dropped, too, unless `keep_empty`. All annotations lie in a few arrays, which forked workers
    share.

    annotations, the file that messages name · images, the folder · image_ids, of the kept images ·
    class_names and category_ids, in the file's order until they are reordered ·
    sizes (n, 2) int64 height, width · statistics, how much was dropped or clipped and why ·
    content, what the files say of all images and boxes, with the sizes that they lack ·
    voc_scores, whether PASCAL VOC's numbers are asked for beside COCO's
    """

    voc_scores = False
    written_as = "<format>:<annotations>:<image folder>"  # how messages write its names

    @classmethod
    def from_name(cls, rest: str, **options: Any) -> DetectionDataset:
        """The data set of a name of DATASETS, without its format. `options`: as __init__.

        Raises UserError: a part is missing.
        """
        parts = cls.parts_of(rest)
        if not all(parts):
            raise UserError(f"data set '{rest}': write it as {cls.written_as}")
        return cls(*parts, **options)

    @classmethod
    def parts_of(cls, rest: str) -> tuple[str, str]:
        """The first two arguments of __init__ in such a name: what the last colon divides."""
        first, _, second = rest.rpartition(":")
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
    ) -> None:
        """convention: what x2 and y2 of its boxes are to be.

        Raises UserError: something is wrong with the file or the folder, no image usable.
        """
        self.annotations = Path(annotations).expanduser()
        self.images = Path(images).expanduser()
        self.transform, self.seed, self.keep_crowds = transform, seed, keep_crowds
        self.convention = convention
        content = self.read(need_boxes=training)
        self.class_names, self.category_ids = content.class_names, content.category_ids
        check_files(self.annotations, self.images, content)
        sizes = complete_sizes(content, self.images)
        self.content = replace(content, sizes=sizes)
        boxes, kept, self.statistics = clean_boxes(
            content.xywh, sizes[content.image], content.crowd, convention, keep_crowds
        )
        objects = np.bincount(content.image[kept & ~content.crowd], minlength=len(sizes))
        usable = np.ones(len(sizes), bool) if keep_empty or not training else objects > 0
        kept &= usable[content.image]
        self.statistics["images_without_boxes"] = int((~usable).sum())
        if training and not usable.any():
            raise UserError(
                f"{self.annotations}: none of its {len(sizes)} images has a usable box: "
                "check the boxes, or set DATASETS.KEEP_EMPTY True"
            )
        order = np.lexsort((content.crowd, content.image))  # in each image the regions come last
        order = order[kept[order]]
        self._boxes, self._classes = boxes[order], content.classes[order]
        self._ignore = content.crowd[order]
        # Boxes are sorted by image, and dropped images have none: the others' ends remain right.
        counts = np.bincount(content.image[order], minlength=len(sizes))
        ends = np.cumsum(counts)
        self._first, self._last = (ends - counts)[usable], ends[usable]
        self._names = content.names[usable]
        self.sizes = sizes[usable]
        self.image_ids: list[int] = content.image_ids[usable].tolist()
        self._log(content.flagged)

    @abstractmethod
    def read(self, *, need_boxes: bool = False) -> Annotations:
        """The files' content, read anew. need_boxes: it is an error if there can be none.

        Raises UserError: a mistake in the files.
        """

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
                f"but {self.entry(index)} says {width} x {height}: correct width and height "
                "there, or replace the file"
            )
        return image, self.ground_truth(index)

    def ground_truth(self, index: int) -> GroundTruth:
        """The boxes of one image in pixels of its file, without reading it."""
        span = slice(self._first[index], self._last[index])
        boxes = torch.from_numpy(self._boxes[span].copy())
        classes = torch.from_numpy(self._classes[span].copy())
        image = torch.zeros(len(classes), dtype=torch.int64)
        ignore = torch.from_numpy(self._ignore[span].copy()) if self.keep_crowds else None
        return GroundTruth(boxes, classes, image, ignore, self.convention)

    def path(self, index: int) -> Path:
        """The image file."""
        return self.images / str(self._names[index])

    def entry(self, index: int) -> str:
        """How messages call what the annotations say of an image."""
        return f"image id {self.image_ids[index]} of {self.annotations}"

    def classes_by_image(self) -> tuple[np.ndarray, np.ndarray]:
        """(index of the image (A,), class (A,)) of every object, image by image."""
        image = np.repeat(np.arange(len(self)), self._last - self._first)
        return image[~self._ignore], self._classes[~self._ignore]

    @property
    def parts(self) -> Sequence[DetectionDataset]:
        """The data sets that it is joined from: itself."""
        return [self]

    @property
    def short_name(self) -> str:
        """Names the folder of its scores."""
        return self.annotations.stem

    @property
    def class_mend(self) -> str:
        """How messages say where a class that is lacking is to be added."""
        return "correct its name in the categories, or add it there"

    def take_order_of(self, first: TrainingSet) -> None:
        """Brings the classes into the order of another data set; each keeps its own category id.

        Raises UserError: the class names are not the same.
        """
        if self.class_names == first.class_names:
            return
        _check_same_classes(first, self)
        self.reorder_classes(first.class_names)

    def reorder_classes(self, class_names: Sequence[str]) -> None:
        """class_names: the data set's own, each once, in another order."""
        own_id = dict(zip(self.class_names, self.category_ids, strict=True))
        place = {name: i for i, name in enumerate(class_names)}
        self._classes = np.array([place[n] for n in self.class_names], np.int64)[self._classes]
        self.class_names = list(class_names)
        self.category_ids = [own_id[name] for name in class_names]

    def _log(self, flagged: int) -> None:
        """One line: what is there, and what was dropped or clipped, if anything was.

        flagged: boxes with an "ignore" flag
        """
        fate = "ignore the regions of %d" if self.keep_crowds else "dropped %d"
        flags = f' ({flagged} by "ignore": 1; scored as crowds)' if flagged else ""
        names = {
            "images_without_boxes": "dropped %d images without boxes",
            "crowd": f"{fate} crowd, difficult or ignored boxes{flags}",
            "invalid": "dropped %d invalid boxes (NaN, infinite, zero or negative size)",
            "tiny": "dropped %d boxes of one pixel or less",
            "outside": "dropped %d boxes outside the image",
            "clipped": "clipped %d boxes",
        }
        notes = [text % self.statistics[k] for k, text in names.items() if self.statistics[k]]
        boxes = int((~self._ignore).sum())
        found = f"{self.annotations}: {len(self)} images, {boxes} boxes"
        logger.info("%s", "; ".join([found, *notes]))


def _check_same_classes(first: TrainingSet, other: TrainingSet) -> None:
    rest = "the data sets of a run need the same class names"
    for one, two in ((first, other), (other, first)):
        lacking = Counter(one.class_names) - Counter(two.class_names)
        if lacking:
            name = f"'{next(iter(lacking))}'"
            names = name if len(lacking) == 1 else f"{name} and {len(lacking) - 1} others"
            raise UserError(
                f"{two.annotations}: lacks class {names} of {one.annotations}: {rest}; "
                f"{two.class_mend}"
            )
    twice = [name for name, times in Counter(first.class_names).items() if times > 1]
    if twice:
        raise UserError(f"{other.annotations}: class '{twice[0]}' is there twice: {rest}, once")
