"""Writes the results of a prediction: pictures or a video, COCO results and a table.

Each file is written completely or not at all.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from dynamic_atss.data.voc_names import IMAGE_ENDINGS
from dynamic_atss.errors import UserError
from dynamic_atss.files import replacement
from dynamic_atss.inference.found import Found
from dynamic_atss.inference.sources import Source
from dynamic_atss.inference.video import VideoWriter
from dynamic_atss.quoting import printable
from dynamic_atss.viz.draw import write_image

RESULTS, TABLE = "detections.json", "detections.csv"
COLUMNS = ("file_name", "frame", "category", "score", "x", "y", "width", "height")
DEFAULT_FOLDER = Path("output/predict")


def output_folder(given: str, source: Source, *, overwrite: bool) -> Path:
    """Returns the folder for the files: `given`, or a new output/predict, output/predict-2, ...

    Raises:
        UserError: the folder is not empty, or holds the pictures to read.
    """
    if not given:
        names = (f"{DEFAULT_FOLDER}{'' if n == 1 else f'-{n}'}" for n in itertools.count(1))
        return next(Path(name) for name in names if not os.path.lexists(name))
    folder = Path(os.path.expanduser(given))
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"--output {given}: is a file; give the name of a folder")
    if source.folder is not None and folder.is_dir() and folder.samefile(source.folder):
        raise UserError(
            f"--output {given}: holds the input, which would be overwritten; give another folder"
        )
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(
            f"--output {given}: is not empty; give another folder, or --overwrite to replace files "
            "of the same names"
        )
    return folder


class Outputs:
    """Writes the detections of one picture after another. Use it as a context.

    The tables and the video are complete at the end of the context. After an error in it, they are
    deleted, and the pictures drawn so far stay.

    counts: number of detections by class name · short_side: as in `Found.plot`
    """

    def __init__(
        self, folder: Path, source: Source, *, pictures: bool, short_side: int = 1
    ) -> None:
        self.folder, self.counts = folder, Counter[str]()
        self._short_side = short_side
        self._pictures, self._stack, self._rows = pictures, contextlib.ExitStack(), 0
        self._video: VideoWriter | None = None
        if source.video is not None and pictures:
            name = Path(source.video.name).stem.replace(" ", "_")
            self._video = VideoWriter(folder / name, source.video.rate)

    def __enter__(self) -> Outputs:
        with self._as_user_error():
            self._json: BinaryIO = self._stack.enter_context(replacement(self.folder / RESULTS))
            table = self._stack.enter_context(replacement(self.folder / TABLE))
            text = codecs.getwriter("utf-8")(table, "backslashreplace")
            self._table: Any = csv.writer(text, lineterminator="\n")
            self._table.writerow(COLUMNS)
        return self

    def add(self, found: Found, image_id: int) -> None:
        """Adds the detections of one picture. Raises UserError if a file cannot be written."""
        with self._as_user_error():
            for row, name in zip(found.to_coco(image_id), found.names, strict=True):
                self._write(row, found, name)
            if self._video is not None:
                self._video.add(found.drawn(self._short_side))
            elif self._pictures:
                write_image(self.folder / picture_name(found.name), found.drawn(self._short_side))
        self.counts.update(found.names)

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
            self._stack.__exit__(kind, error, trace)
            if self._video is not None:
                self._video.discard()
            with contextlib.suppress(OSError):  # as when the folder is not empty
                self.folder.rmdir()
            return
        with self._as_user_error(), self._stack:
            self._json.write(b"\n]\n" if self._rows else b"[]\n")
            if self._video is not None:
                self._video.finish()

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


def picture_name(name: str) -> str:
    """Names the drawn picture like its file; adds .png if OpenCV cannot write that format."""
    return name if name.lower().endswith(IMAGE_ENDINGS) else f"{name}.png"
