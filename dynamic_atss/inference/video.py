"""Reads videos and cameras, and writes videos, by OpenCV."""

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

_COUNTED = (".mp4", ".avi", ".mov", ".m4v")  # their headers count the frames; others estimate
CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))  # every build of OpenCV can write one of them
_DEFAULT_RATE = 25.0  # frames per second, for a camera without a rate
_MAX_RATE = 1000.0
_MAX_CAMERA = 9_999  # OpenCV crashes with numbers below 0 and with very large ones
_MAX_LOST = 1000  # lost frames in a row, after which the file counts as ended

# This silences the decoders on stderr. Broken frames are reported by this module.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Video:
    """Yields the frames of a video file or of a camera.

    Attributes:
        name: the name for messages.
        live: True for a camera.
        folder: folder of the file; None for a camera.
        total: number of frames; None if unknown.
        rate: frames per second.
    """

    def __init__(self, source: Path | int, max_pixels: int) -> None:
        """Opens the video.

        Raises:
            UserError: it cannot be opened, or its frames have too many pixels.
        """
        if isinstance(source, int) and not 0 <= source <= _MAX_CAMERA:
            raise UserError(f"camera {source}: give the number of a camera, 0 to {_MAX_CAMERA}")
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
                f"{self.name}: frames have {width} x {height} pixels, more than INPUT.MAX_PIXELS "
                f"{max_pixels}: raise it"
            )
        rate = self._get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= _MAX_RATE else _DEFAULT_RATE
        count = int(self._get(cv2.CAP_PROP_FRAME_COUNT))
        self.total = count if count > 0 and not self.live else None
        self._counted = Path(self.name).suffix.lower() in _COUNTED

    def _get(self, capture_property: int) -> float:
        return float(self._capture.get(capture_property))

    def _why_not_opened(self) -> str:
        if self.live:
            return "no such camera, or another program uses it: check its number"
        return (
            "the video cannot be opened: it is damaged, or OpenCV lacks its codec; convert it, as "
            "by ffmpeg -i IN -c:v mpeg4 out.mp4"
        )

    def __iter__(self) -> Iterator[Picture | Broken]:
        """Yields frames, counted from 1, and `Broken` for undecodable ones. A camera never ends."""
        number, lost = 0, 0  # lost: frames in a row up to now
        try:
            while lost < _MAX_LOST:
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
            frames = f"frame {first}" if first == last else f"frames {first} to {last}"
            yield Broken(f"{self.name}, {frames}: cannot be decoded")


class VideoWriter:
    """Writes a video under a temporary name. Use it as a context.

    The video gets its name at the end of the context, if it holds all frames. Otherwise, and after
    an error in the context, it is deleted.
    """

    def __init__(self, stem: Path, rate: float) -> None:
        """Opens no file yet. The first frame does.

        Args:
            stem: path without ending; the ending depends on the codecs of OpenCV.
            rate: frames per second.
        """
        self._stem, self._rate, self._count = stem, rate, 0
        self._writer: cv2.VideoWriter | None = None
        self._temporary, self.path = stem, stem

    def add(self, image: Tensor) -> None:
        """Adds a frame (3, H, W) uint8 RGB. Raises UserError if it cannot be written."""
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[:, :, ::-1])
        if self._writer is None:
            self._size = pixels.shape[1], pixels.shape[0]
            self._writer = self._opened()
        if (pixels.shape[1], pixels.shape[0]) != self._size:  # the size of a stream may change
            pixels = cv2.resize(pixels, self._size)
        self._count += 1
        with _quiet():
            written = self._writer.write(pixels)
        if written is False:  # OpenCV before 5 returns None; `_check` at the end finds the loss
            raise self._loss(f"frame {self._count} cannot be written")

    def _opened(self) -> cv2.VideoWriter:
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        for codec, ending in CODECS:
            self.path = self._stem.with_name(self._stem.name + ending)
            self._temporary = self.path.with_name(f".{self._stem.name}.tmp{ending}")
            with _quiet():
                code = cv2.VideoWriter.fourcc(*codec)
                writer = cv2.VideoWriter(str(self._temporary), code, self._rate, self._size)
            if writer.isOpened():
                return writer
            self._temporary.unlink(missing_ok=True)
        raise UserError(
            f"{self._stem}: OpenCV can write no video here (neither mp4v nor MJPG): check that the "
            "folder is writable, or add --no-pictures"
        )

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        with _quiet():
            self._writer.release()
        try:
            if kind is None:
                self._check()
                os.replace(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _check(self) -> None:
        """Raises UserError if the file lacks frames: OpenCV does not report each failed write."""
        held = _count_frames(self._temporary)
        if held != self._count:
            raise self._loss(f"only {held} of {self._count} frames can be read again")

    def _loss(self, what: str) -> UserError:
        return UserError(
            f"{self.path}: {what}: the disk is full, or the file is larger than is allowed: make "
            "room, raise `ulimit -f`, or add --no-pictures"
        )


def _count_frames(path: Path) -> int:
    """Decodes a video and counts its frames. The number in its header may be larger."""
    with _quiet():
        capture, count = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG), 0
        while capture.grab():
            count += 1
        capture.release()
    return count


def rgb(pixels: np.ndarray) -> Tensor:
    """Converts (H, W, 3) BGR of OpenCV to (3, H, W) uint8 RGB."""
    return torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1])).permute(2, 0, 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the log of OpenCV."""
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
