"""Writes the results of a prediction: pictures or a video, COCO results and a table.

Each file is written completely or not at all.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from dynamic_atss.errors import UserError
from dynamic_atss.files import replacement
from dynamic_atss.inference.found import Found
from dynamic_atss.inference.output_paths import RESULTS, TABLE, picture_name, video_stem
from dynamic_atss.inference.sources import Source
from dynamic_atss.inference.video import VideoWriter
from dynamic_atss.quoting import printable
from dynamic_atss.viz.draw import MAX_SIDE, enlarged_size, write_image

logger = logging.getLogger(__name__)

COLUMNS = ("file_name", "frame", "category", "score", "x", "y", "width", "height")


class Outputs:
    """Writes the detections of one picture after another. Use it as a context.

    The tables and the video are complete at the end of the context. If one of them cannot be
    written, or after an error in the context, all are deleted, and the pictures drawn so far stay.

    Attributes:
        folder: the folder of the files.
        counts: number of detections by class name.

    Args:
        short_side: as in `Found.plot`.
        report: is called with a line for each picture that is drawn smaller than `short_side`.
    """

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        pictures: bool,
        short_side: int = 1,
        report: Callable[[str], None] = logger.warning,
    ) -> None:
        self.folder, self.counts = folder, Counter[str]()
        self._report, self._reported = report, ""
        self._short_side = short_side
        self._pictures, self._rows = pictures, 0
        self._video: VideoWriter | None = None
        if source.video is not None and pictures:
            self._video = VideoWriter(folder / video_stem(source.video), source.video.rate)

    def __enter__(self) -> Outputs:
        with self._as_user_error(), contextlib.ExitStack() as stack:
            stack.callback(_remove_if_empty, self.folder)
            self._json: BinaryIO = stack.enter_context(replacement(self.folder / RESULTS))
            self._csv: BinaryIO = stack.enter_context(replacement(self.folder / TABLE))
            if self._video is not None:
                stack.enter_context(self._video)
            text = codecs.getwriter("utf-8")(self._csv, "backslashreplace")
            self._table: Any = csv.writer(text, lineterminator="\n")
            self._table.writerow(COLUMNS)
            self._stack = stack.pop_all()
        return self

    def add(self, found: Found, image_id: int) -> None:
        """Adds the detections of one picture. Raises UserError if a file cannot be written."""
        with self._as_user_error():
            for row, name in zip(found.to_coco(image_id), found.names, strict=True):
                self._write(row, found, name)
            if self._pictures:
                self._draw(found)
        self.counts.update(found.names)

    def _draw(self, found: Found) -> None:
        self._report_limit(found)
        if self._video is not None:
            self._video.add(found.drawn(self._short_side))
        else:
            write_image(self.folder / picture_name(found.name), found.drawn(self._short_side))

    def _report_limit(self, found: Found) -> None:
        """Reports a picture that is too long for `short_side`; a video only once."""
        _, *sides = found.image.shape
        height, width = enlarged_size(sides[0], sides[1], self._short_side)
        if min(height, width) < self._short_side and found.name != self._reported:
            self._reported = found.name
            self._report(
                f"{found.name}: drawn with {width} x {height} pixels, as a drawn picture has at "
                f"most {MAX_SIDE} on a side"
            )

    def _write(self, row: dict[str, Any], found: Found, name: str) -> None:
        frame = {} if found.frame is None else {"frame": found.frame}
        record = {**row, "category": name, "file_name": found.name, **frame}
        self._json.write(b"[\n" if not self._rows else b",\n")
        self._json.write(json.dumps(record).encode())
        box = [round(side, 3) for side in row["bbox"]]
        names = printable(found.name), frame.get("frame", ""), printable(name)
        self._table.writerow([*names, round(row["score"], 6), *box])
        self._rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            with contextlib.suppress(OSError):  # a full disk may fail again; `error` is raised
                self._stack.__exit__(kind, error, trace)
            return
        with self._as_user_error(), self._stack:
            self._json.write(b"\n]\n" if self._rows else b"[]\n")
            for file in (self._json, self._csv):  # may fail, so before any file gets its name
                file.flush()
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def _as_user_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{self.folder}: cannot be written ({reason}): make room or choose another place"
            ) from error

    def summary(self) -> str:
        """Lists the most frequent classes with their counts, in one line."""
        shown = [f"{count} {printable(name)}" for name, count in self.counts.most_common(12)]
        return ", ".join(shown) + (", ..." if len(self.counts) > len(shown) else "")


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
