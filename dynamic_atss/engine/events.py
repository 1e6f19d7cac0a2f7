"""Writes TensorBoard's event files of a run."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
from torch import Tensor

_log = logging.getLogger(__name__)


class Events:
    """Writes the numbers, texts and pictures that TensorBoard shows.

    Writes nothing if TensorBoard is not installed, or after a failed write, such as to a full disk.
    Logs either case, and the training continues.
    """

    def __init__(self, folder: Path, start: int) -> None:
        """Opens the event files in a folder.

        Args:
            folder: the folder.
            start: the iteration after which events of an interrupted run are hidden.
        """
        self._folder = folder
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            _log.info("tensorboard is not installed: no event files, metrics.jsonl has the numbers")
            return
        _silence_writing_thread()
        try:
            self._writer = SummaryWriter(str(folder), purge_step=start + 1 if start else None)
        except OSError as error:
            self._give_up(error)

    @property
    def open(self) -> bool:
        return self._writer is not None

    def add_scalar(self, tag: str, value: float, iteration: int) -> None:
        self._write(lambda writer: writer.add_scalar(tag, value, iteration))

    def add_text(self, tag: str, text: str, iteration: int) -> None:
        self._write(lambda writer: writer.add_text(tag, text, iteration))

    def add_picture(self, tag: str, picture: Tensor, iteration: int) -> None:
        """Writes a picture (3, H, W) uint8."""
        self._write(lambda writer: _write_picture(writer, tag, picture, iteration))

    def add_hyperparameters(self, values: Mapping[str, Any], shown: Iterable[str]) -> None:
        """Writes hyperparameters.

        Args:
            shown: the names of scalars to show with them.
        """
        self._write(lambda writer: _write_hyperparameters(writer, values, shown))

    def close(self) -> None:
        """Closes the files. A second call does nothing."""
        self._write(lambda writer: writer.close())

    def _write(self, write: Callable[[Any], None]) -> None:
        if self._writer is None:
            return
        try:
            write(self._writer)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        _log.warning(
            "%s: TensorBoard's events cannot be written any more (%s); the training continues",
            self._folder,
            error.strerror or error,
        )


@functools.cache
def _silence_writing_thread() -> None:
    """Hides OSErrors of TensorBoard's writer thread: the next call raises the same error."""
    previous_hook = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        by_writer = type(failed.thread).__name__ == "_AsyncWriterThread"
        if not (by_writer and issubclass(failed.exc_type, OSError)):
            previous_hook(failed)

    threading.excepthook = hook


def _write_picture(events: Any, tag: str, picture: Tensor, iteration: int) -> None:
    """Writes a picture as JPEG.

    `SummaryWriter.add_image` writes PNG, which takes ten times as long and twice the space.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    pixels = picture.permute(1, 2, 0).flip(2).contiguous().numpy()
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    height, width = pixels.shape[:2]
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=data.tobytes()
    )
    events.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), iteration)


def _write_hyperparameters(events: Any, values: Mapping[str, Any], shown: Iterable[str]) -> None:
    """Writes hyperparameters for TensorBoard's HPARAMS page, which shows them with some scalars.

    `SummaryWriter.add_hparams` would write to another folder, without the scalars of the run.
    """
    from torch.utils.tensorboard.summary import hparams

    plain = {k: v if type(v) in (int, float, str) else str(v) for k, v in values.items()}
    experiment, session, _ = hparams(plain, dict.fromkeys(shown, 0.0))
    for summary in (experiment, session):
        events.file_writer.add_summary(summary)
