"""What a model is given, as a sequence of pictures that are read one by one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dynamic_atss.data.frames import Reading
from dynamic_atss.data.voc_names import IMAGE_ENDINGS
from dynamic_atss.errors import UserError
from dynamic_atss.inference.picture import Broken, Picture, picture_of, read
from dynamic_atss.inference.video import ENDINGS as VIDEO_ENDINGS
from dynamic_atss.inference.video import Video
from dynamic_atss.quoting import printable

ONE, LIST, STREAM = "one", "list", "stream"


@dataclass(frozen=True)
class Source:
    """pictures, in turn · kind: "one" picture, a "list" of which each one counts, or a "stream"
    that may be long, of which broken ones are left out · total, how many, as far as it is known ·
    video, if it is one · folder, of the files · note, what is passed over, in a line"""

    pictures: Iterable[Picture | Broken]
    kind: str
    total: int | None = None
    video: Video | None = None
    folder: Path | None = None
    note: str = ""


def open_source(given: Any, reading: Reading) -> Source:
    """A path of a picture, folder or video, a pattern, a camera's number, an array, a PIL picture,
    a tensor, a list of pictures, or anything that gives one picture after another.

    Raises UserError: there is no such file, or no picture in the folder; a video that OpenCV cannot
    open; what is no picture.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, bool | bytes | Mapping | Set):
        raise UserError(f"a {type(given).__name__} is no picture: give a path, array or tensor")
    if isinstance(given, int):
        return _stream_of(Video(given, reading.max_pixels))
    if isinstance(given, str | os.PathLike):
        return _of_path(os.fspath(given), reading)
    if isinstance(given, np.ndarray | Tensor) and given.ndim == 4:
        given = list(given)
    if isinstance(given, list | tuple):
        return Source((picture_of(value, reading) for value in given), LIST, len(given))
    if isinstance(given, Iterator) or (
        isinstance(given, Iterable) and not isinstance(given, np.ndarray | Tensor)
    ):
        return Source(_picture_of_each(given, reading), STREAM)
    return Source([picture_of(given, reading)], ONE, 1)


def _of_path(given: str, reading: Reading) -> Source:
    _check_path(given)
    path = Path(given).expanduser()
    if path.is_dir():
        files, note = _pictures_of(path)
        return replace(of_files(files, reading, path), note=note)
    if is_video(path):
        return _stream_of(Video(path, reading.max_pixels))
    if not os.path.lexists(path) and glob.has_magic(str(path)):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        files = [file for file in files if file.is_file()]
        if not files:
            raise UserError(f"{given}: no file fits this pattern")
        return of_files(files, reading, Path(os.path.commonpath([f.parent for f in files])))
    return Source([read(path, reading, path.name)], ONE, 1, folder=path.parent)


def _check_path(given: str) -> None:
    """Raises UserError for what would silently mean another path."""
    if not given.strip():
        raise UserError("the input is an empty text: give a picture, folder or video; . is here")
    if "://" in given and not os.path.lexists(given):
        raise UserError(f"{given}: addresses are not read: download it and give the file")


def is_video(path: Path) -> bool:
    """Whether it is a file that is named as a video."""
    return path.suffix.lower() in VIDEO_ENDINGS and path.is_file()


def _pictures_of(folder: Path) -> tuple[list[Path], str]:
    """The picture files of a folder, and what else lies in it. Raises UserError: none."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [x for x in entries if x.name.lower().endswith(IMAGE_ENDINGS) and x.is_file()]
    endings, deeper = ", ".join(IMAGE_ENDINGS), f"{glob.escape(str(folder))}/**/*.jpg"
    if not files:
        raise UserError(
            f"{folder}: the folder holds no pictures ({endings}); for those of its folders give "
            f"{deeper}"
        )
    others = [entry for entry in entries if entry not in {*files}]
    if not others:
        return files, ""
    return files, (
        f"{folder}: {len(others)} of {len(entries)} entries are not looked at, such as "
        f"{printable(others[0].name)}: pictures of a folder end in {endings}; give videos alone, "
        f"and pictures of its folders as {deeper}"
    )


def of_files(files: Sequence[Path], reading: Reading, folder: Path) -> Source:
    """Picture files as a stream, named by their paths below `folder`."""
    return Source(_read_each(files, reading, folder), STREAM, len(files), folder=folder)


def _read_each(files: Sequence[Path], reading: Reading, folder: Path) -> Iterator[Picture | Broken]:
    for file in files:
        try:
            yield read(file, reading, os.path.relpath(file, folder))
        except UserError as error:
            yield Broken(str(error))


def _picture_of_each(given: Iterable[Any], reading: Reading) -> Iterator[Picture | Broken]:
    """What has no path is wrong in a way that all the rest will be, too."""
    for value in given:
        try:
            yield picture_of(value, reading)
        except UserError as error:
            if not isinstance(value, str | os.PathLike):
                raise
            yield Broken(str(error))


def _stream_of(video: Video) -> Source:
    return Source(video, STREAM, video.total, video, video.folder)


def chunks(pictures: Iterable[Picture | Broken], size: int) -> Iterator[list[Picture | Broken]]:
    """`size` at a time, read when they are asked for."""
    rest = iter(pictures)
    while chunk := list(islice(rest, size)):
        yield chunk
