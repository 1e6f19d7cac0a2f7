"""Loads a trained model, which is called with pictures."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_atss.inference.detect import PictureDetector, Rows
from dynamic_atss.inference.found import Found
from dynamic_atss.inference.options import check_options, class_indices
from dynamic_atss.inference.picture import Broken, Picture
from dynamic_atss.inference.restore import Restored, restore
from dynamic_atss.inference.sources import LIST, ONE, Source, chunks, open_source
from dynamic_atss.inference.tiles import detect_in_tiles

logger = logging.getLogger(__name__)

THRESHOLD = 0.3  # default score threshold
OVERLAP = 0.2
_GPU_BATCH = 8  # a CPU gains nothing from batches of more than one


def load(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    config_file: str | os.PathLike[str] = "",
    overrides: Sequence[str] = (),
    class_names: Sequence[str] = (),
    allow_code: bool = False,
) -> Model:
    """Loads a trained model, which is then called with pictures.

    Arguments and errors are those of `dynamic_atss.inference.restore.restore`.

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
    """Yields the `Found` of each picture of a folder, video, camera or iterator.

    Attributes:
        broken: one message for each picture or frame that could not be read; these are skipped.
        report: is called with each such message; by default logs a warning.
        total: number of pictures or frames; None if unknown.
    """

    def __init__(self, found: Iterator[Found | Broken], source: Source) -> None:
        self._found, self.source, self.total = found, source, source.total
        self.broken: list[str] = []
        self.report: Callable[[str], None] = logger.warning

    def __iter__(self) -> Iterator[Found]:
        return self

    def __next__(self) -> Found:
        for found in self._found:
            if isinstance(found, Found):
                return found
            self.broken.append(found.message)
            self.report(f"skipped: {found.message}")
        raise StopIteration


class Model:
    """Detects objects in pictures, folders and videos.

    Attributes:
        class_names: the names of the classes, in the order of the labels.
        device: the device that the model runs on.
        restored: the detector and its configuration.

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
        self._detect = PictureDetector(restored)

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
        """Detects objects in one picture, a list of pictures, or a longer source.

        Args:
            source: one picture: a path, a numpy array (H, W, 3) BGR as OpenCV reads it or (H, W)
                grey, a PIL picture, a tensor (3, H, W) RGB, uint8 or 0..1 -> `Found`;
                a list of these, or (N, ...) of them -> a list; a folder, a pattern such as
                "my/*.jpg", a video, a camera's number or an iterator of pictures -> a `Stream`.
            threshold: lowest score of a detection. 0 keeps all detections that a test counts.
            classes: names or indices of the classes to keep; None keeps all.
            tile: side in pixels of tiles that large pictures are cut into; 0 cuts none.
            overlap: overlap of neighbouring tiles, as a fraction of their side, 0 to 0.9.
            batch: pictures or tiles per batch; 0 means 8 on a GPU, 1 on a CPU or for a camera.
            stream: returns a `Stream` for one picture or a list, too.

        Raises:
            UserError: an argument is out of range, a file does not exist, or a single picture or
                one of a list cannot be read.
        """
        kept = class_indices(classes, self.class_names)
        check_options(threshold, tile, overlap, batch)
        self._warn_of_small_tiles(tile)
        opened = open_source(source, self.restored.reading)
        if opened.note and opened is not source:  # the caller has the note of an opened source
            logger.warning("%s", opened.note)
        size = batch or (_GPU_BATCH if self.device.type == "cuda" else 1)
        if opened.video is not None and opened.video.live:
            size = 1

        detect: Callable[[Sequence[Tensor]], list[Rows]] = self._detect
        if tile:
            detect = partial(self._detect_in_tiles, tile=tile, overlap=overlap, batch=size)
        found = (
            entry if isinstance(entry, Broken) else self._found(*entry, threshold, kept)
            for entry in _detect_each(opened.pictures, detect, size)
        )
        if stream or opened.kind not in (ONE, LIST):
            return Stream(found, opened)
        results = list(found)
        return results[0] if opened.kind == ONE else results

    def _detect_in_tiles(
        self, images: Sequence[Tensor], *, tile: int, overlap: float, batch: int
    ) -> list[Rows]:
        """Detects in the tiles of each image. Joins them by the NMS threshold of the model."""
        threshold = float(getattr(self.restored.detector.postprocess, "nms_threshold", 0.6))
        return [
            detect_in_tiles(
                self._detect, image, tile=tile, overlap=overlap, threshold=threshold, batch=batch
            )
            for image in images
        ]

    def _warn_of_small_tiles(self, tile: int) -> None:
        """Warns if tiles are enlarged, so that objects look larger than in training."""
        side = self.restored.cfg.INPUT.MIN_SIZE_TEST
        if 0 < tile < side:
            logger.warning(
                "tile %d: tiles are enlarged %.1f times to the short side of %d pixels, so objects "
                "may look larger than in training; give %d or more",
                tile,
                side / tile,
                side,
                side,
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


def _detect_each(
    pictures: Iterable[Picture | Broken],
    detect: Callable[[Sequence[Tensor]], list[Rows]],
    size: int,
) -> Iterator[tuple[Picture, Rows] | Broken]:
    """Yields each picture with its detections, in batches of `size`; passes `Broken` on."""
    for chunk in chunks(pictures, size):
        rows = iter(detect([entry.image for entry in chunk if isinstance(entry, Picture)]))
        for entry in chunk:
            yield (entry, next(rows)) if isinstance(entry, Picture) else entry
