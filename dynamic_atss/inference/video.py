"""Videos and cameras, read and written by OpenCV."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.inference.picture import Broken, Picture

ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
_COUNTED = (".mp4", ".avi", ".mov", ".m4v")  # whose headers count the frames, others estimate
_CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))  # one of them every build of OpenCV can write
_USUAL_RATE = 25.0  # frames per second, of a camera that does not tell
_MOST_RATE = 1000.0
_MOST_LOST = 1000  # frames in a row: the rest of the file is not there, whatever its header counts

# The decoders' own lines on stderr; what is broken is told by us, once.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Video:
    """The frames of a video file or of a camera, in turn.

    name, as messages call it · folder, of the file · total, of a file's frames, as far as it is
    known · rate, frames per second
    """

    def __init__(self, source: Path | int, max_pixels: int) -> None:
        """Raises UserError: it cannot be opened, or its frames have too many pixels."""
        self.name = f"camera {source}" if isinstance(source, int) else str(source)
        self.live = isinstance(source, int)
        self.folder = None if isinstance(source, int) else source.parent
        with _quiet():
            self._capture = (
                cv2.VideoCapture(source)
                if isinstance(source, int)
                else cv2.VideoCapture(os.path.abspath(source), cv2.CAP_FFMPEG)
            )
        if not self._capture.isOpened():
            raise UserError(f"{self.name}: {self._why_not_opened()}")
        width, height = (int(self._get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, 4))
        if width * height > max_pixels:
            raise UserError(
                f"{self.name}: frames of {width} x {height} pixels, more than INPUT.MAX_PIXELS "
                f"{max_pixels}: raise it"
            )
        rate = self._get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= _MOST_RATE else _USUAL_RATE
        count = int(self._get(cv2.CAP_PROP_FRAME_COUNT))
        self.total = count if count > 0 and not self.live else None
        self._counted = Path(self.name).suffix.lower() in _COUNTED

    def _get(self, what: int) -> float:
        return float(self._capture.get(what))

    def _why_not_opened(self) -> str:
        if self.live:
            return "no such camera, or another program has it: check its number"
        return (
            "the video cannot be opened: it is damaged, or OpenCV lacks its codec; convert it, as "
            "by ffmpeg -i IN -c:v mpeg4 out.mp4"
        )

    def __iter__(self) -> Iterator[Picture | Broken]:
        """Frames count from 1. Those that cannot be decoded are `Broken`; a camera has no end."""
        number, lost = 0, 0  # lost: in a row, up to now
        try:
            while lost < _MOST_LOST:
                good, pixels = self._capture.read()
                if not good and number >= (self.total or 0):
                    break
                number += 1
                if not good:
                    lost += 1
                    continue
                yield from self._broken(number - lost, number - 1)
                lost = 0
                yield Picture(rgb(pixels), Path(self.name).name, frame=number)
            if self._counted:
                yield from self._broken(number - lost + 1, number)
        finally:
            self._capture.release()

    def _broken(self, first: int, last: int) -> Iterator[Broken]:
        if first <= last:
            which = f"frame {first}" if first == last else f"frames {first} to {last}"
            yield Broken(f"{self.name}, {which}: cannot be decoded")


class VideoWriter:
    """A video that appears whole or not at all: under a temporary name until `finish`."""

    def __init__(self, stem: Path, rate: float) -> None:
        """stem: the path without its ending, which follows from what OpenCV can write."""
        self._stem, self._rate = stem, rate
        self._writer: cv2.VideoWriter | None = None
        self._temporary, self.path = stem, stem

    def add(self, image: Tensor) -> None:
        """image (3, H, W) uint8 RGB. Raises UserError: OpenCV can write no video."""
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :, ::-1])
        if self._writer is None:
            self._size = pixels.shape[1], pixels.shape[0]
            self._writer = self._opened()
        if (pixels.shape[1], pixels.shape[0]) != self._size:  # streams may change their size
            pixels = cv2.resize(pixels, self._size)
        self._writer.write(pixels)

    def _opened(self) -> cv2.VideoWriter:
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        for codec, ending in _CODECS:
            self.path = self._stem.with_name(self._stem.name + ending)
            self._temporary = self.path.with_name(f".{self._stem.name}.tmp{ending}")
            with _quiet():
                code = cv2.VideoWriter.fourcc(*codec)
                writer = cv2.VideoWriter(str(self._temporary), code, self._rate, self._size)
            if writer.isOpened():
                return writer
        raise UserError(
            f"{self._stem}: OpenCV can write no video here (neither mp4v nor MJPG): check that the "
            "folder can be written, or leave the pictures out by --no-pictures"
        )

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """What is not finished goes."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._temporary.unlink(missing_ok=True)


def rgb(pixels: np.ndarray) -> Tensor:
    """(3, H, W) uint8 RGB of OpenCV's (H, W, 3) BGR."""
    return torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1])).permute(2, 0, 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines about what it tries."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
