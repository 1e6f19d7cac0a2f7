"""`load`: a trained model that is called with pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.inference.detect import Detecting, Rows
from dynamic_atss.inference.found import Found
from dynamic_atss.inference.options import check_options, class_indices
from dynamic_atss.inference.picture import Broken, Picture
from dynamic_atss.inference.restore import Restored, restore
from dynamic_atss.inference.sources import LIST, ONE, Source, chunks, open_source
from dynamic_atss.inference.tiles import detect_in_tiles

logger = logging.getLogger(__name__)

THRESHOLD = 0.3  # of a score, where none is given: what is worth showing
OVERLAP = 0.2
_GPU_BATCH = 8  # a CPU gains nothing by more than one


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    config_file: str | os.PathLike[str] = "",
    overrides: Sequence[str] = (),
    class_names: Sequence[str] = (),
    allow_code: bool = False,
) -> Model:
    """A trained model, ready to be called.

    Arguments and errors: as `dynamic_atss.inference.restore.restore`.

    >>> from dynamic_atss import load
    >>> load("output/demo/run", device="cpu")
    <Model of output/demo/run...: 6 classes, cpu>
    """
    restored = restore(
        path,
        device=device,
        config_file=config_file,
        overrides=overrides,
        class_names=class_names,
        allow_code=allow_code,
    )
    return Model(restored)


class Stream:
    """The `Found` of each picture of a folder, video, camera or iterator, in turn; nothing is kept.

    broken: a line for each picture or frame that could not be read, which is left out · tell: is
    called with each such line, by default a warning in the log · total: how many there are, as far
    as it is known
    """

    def __init__(self, found: Iterator[Found | Broken], source: Source) -> None:
        self._found, self.source, self.total = found, source, source.total
        self.broken: list[str] = []
        self.tell: Callable[[str], None] = logger.warning

    def __iter__(self) -> Iterator[Found]:
        return self

    def __next__(self) -> Found:
        for found in self._found:
            if isinstance(found, Found):
                return found
            self.broken.append(found.message)
            self.tell(f"left out: {found.message}")
        raise StopIteration


class Model:
    """A detector with its classes. class_names: in the order of the labels · device, where it
    computes · restored, its parts and its configuration

    >>> from dynamic_atss import load
    >>> model = load("output/demo/run", device="cpu")
    >>> model.class_names
    ['circle', 'square', 'triangle', 'star', 'ring', 'cross']
    >>> for found in model("pictures", threshold=0, classes=["ring"]):
    ...     assert set(found.names) <= {"ring"}
    """

    def __init__(self, restored: Restored) -> None:
        self.restored, self.class_names = restored, restored.class_names
        self.device = restored.device
        self._detect = Detecting(restored)

    def __repr__(self) -> str:
        return f"<Model of {self.restored.path}: {len(self.class_names)} classes, {self.device}>"

    def __call__(
        self,
        source: Any,
        *,
        threshold: float = THRESHOLD,
        classes: Sequence[str | int] | str | int | None = None,
        tile: int = 0,
        overlap: float = OVERLAP,
        batch: int = 0,
        stream: bool = False,
    ) -> Any:
        """What is found in a picture, in each of a list, or in turn in a longer source.

        Args:
            source: one picture: a path, a numpy array (H, W, 3) BGR as OpenCV reads it or (H, W)
                grey, a PIL picture, a tensor (3, H, W) RGB, uint8 or 0..1 -> `Found`;
                a list of these, or (N, ...) of them -> a list; a folder, a pattern such as
                "my/*.jpg", a video, a camera's number or an iterator of pictures -> a `Stream`.
            threshold: detections of a lower score are left out. 0: all that a test counts.
            classes: names or indices of those that are kept; None: all.
            tile: large pictures are looked at in tiles of so many pixels, too; 0: not.
            overlap: of two tiles, as a part of their side, 0 to 0.9.
            batch: pictures (or tiles) at a time; 0: 8 on a GPU, 1 on a CPU and of a camera.
            stream: a `Stream` also of one picture or a list.

        Raises:
            UserError: an argument that cannot be; no such file; a single picture, or one of a
            list, that cannot be read.
        """
        kept = class_indices(classes, self.class_names)
        check_options(threshold, tile, overlap, batch)
        self._tell_of_small_tiles(tile)
        opened = open_source(source, self.restored.reading)
        if opened.note and opened is not source:  # who opened it has the note
            logger.warning("%s", opened.note)
        size = batch or (_GPU_BATCH if self.device.type == "cuda" else 1)
        if opened.video is not None and opened.video.live:
            size = 1

        joins = float(getattr(self.restored.detector.postprocess, "nms_threshold", 0.6))

        def detect(images: Sequence[Tensor]) -> list[Rows]:
            if not tile:
                return self._detect(images)
            return [
                detect_in_tiles(
                    self._detect, image, tile=tile, overlap=overlap, threshold=joins, batch=size
                )
                for image in images
            ]

        found = (
            one if isinstance(one, Broken) else self._found(*one, threshold, kept)
            for one in _each(opened.pictures, detect, size)
        )
        if stream or opened.kind not in (ONE, LIST):
            return Stream(found, opened)
        every = list(found)
        return every[0] if opened.kind == ONE else every

    def _tell_of_small_tiles(self, tile: int) -> None:
        """Warns of tiles that are enlarged, which no whole picture of their size is."""
        side = self.restored.cfg.INPUT.MIN_SIZE_TEST
        if 0 < tile < side:
            logger.warning(
                "tile %d: the model looks at a short side of %d pixels, so tiles are enlarged %.1f "
                "times, and objects may look larger than those that it learnt; give %d or more",
                *(tile, side, side / tile, side),
            )

    def _found(
        self, picture: Picture, rows: Rows, threshold: float, kept: list[int] | None
    ) -> Found:
        chosen = rows.scores >= threshold
        if kept is not None:
            chosen &= np.isin(rows.labels, kept)
        rows = rows[chosen]
        scores, labels = torch.from_numpy(rows.scores), torch.from_numpy(rows.labels)
        names = self.class_names
        return Found(picture.image, picture.name, rows.xywh, scores, labels, names, picture.frame)


def _each(
    pictures: Iterable[Picture | Broken],
    detect: Callable[[Sequence[Tensor]], list[Rows]],
    size: int,
) -> Iterator[tuple[Picture, Rows] | Broken]:
    """Each picture with its detections, `size` of them at a time; what is broken as it is."""
    for chunk in chunks(pictures, size):
        rows = iter(detect([one.image for one in chunk if isinstance(one, Picture)]))
        for one in chunk:
            yield (one, next(rows)) if isinstance(one, Picture) else one
