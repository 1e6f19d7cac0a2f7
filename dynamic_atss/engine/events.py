"""TensorBoard's events of a run."""

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
    """What TensorBoard shows of a run. Where it is not installed nothing is written, and a line of
    the log says so; nor from the moment that the disk is full, and the training goes on."""

    def __init__(self, folder: Path, start: int) -> None:
        """start: what an interrupted run wrote of later iterations is hidden."""
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
        """picture: (3, H, W) uint8."""
        self._write(lambda writer: _write_picture(writer, tag, picture, iteration))

    def add_hyperparameters(self, values: Mapping[str, Any], shown: Iterable[str]) -> None:
        """shown: names of scalars."""
        self._write(lambda writer: _write_hyperparameters(writer, values, shown))

    def close(self) -> None:
        """A second call does nothing."""
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
            "%s: TensorBoard's events cannot be written any more (%s); the training goes on",
            *(self._folder, error.strerror or error),
        )


@functools.cache
def _silence_writing_thread() -> None:
    """The writer has a thread whose error the next call raises again, so that it is told once."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        ours = type(failed.thread).__name__ == "_AsyncWriterThread"
        if not (ours and issubclass(failed.exc_type, OSError)):
            before(failed)

    threading.excepthook = hook


def _write_picture(events: Any, tag: str, picture: Tensor, iteration: int) -> None:
    """As JPEG: the PNG of `SummaryWriter.add_image` takes ten times as long, and twice the room."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    pixels = picture.permute(1, 2, 0).flip(2).contiguous().numpy()
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    height, width = pixels.shape[:2]
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=data.tobytes()
    )
    events.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), iteration)


def _write_hyperparameters(events: Any, values: Mapping[str, Any], shown: Iterable[str]) -> None:
    """For TensorBoard's HPARAMS page, with the scalars `shown`. `SummaryWriter.add_hparams` would
    open a folder of its own, where the page does not find the run's scalars."""
    from torch.utils.tensorboard.summary import hparams

    plain = {k: v if type(v) in (int, float, str) else str(v) for k, v in values.items()}
    experiment, session, _ = hparams(plain, dict.fromkeys(shown, 0.0))
    for summary in (experiment, session):
        events.file_writer.add_summary(summary)
