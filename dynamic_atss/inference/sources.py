"""Opens the input of a model as a sequence of pictures, which are read one by one."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.voc_names import IMAGE_ENDINGS
from dynamic_atss.errors import UserError
from dynamic_atss.inference.picture import (
    Broken,
    Picture,
    is_broken_link,
    is_video,
    lone_video,
    picture_of,
    read,
)
from dynamic_atss.inference.video import Video
from dynamic_atss.quoting import printable

ONE, LIST, STREAM = "one", "list", "stream"


@dataclass(frozen=True)
class Source:
    """Holds the pictures of an input.

    Attributes:
        pictures: the pictures in order.
        kind: "one" picture, a "list" of pictures, or a "stream" that skips broken pictures.
        total: number of pictures or frames; None if unknown.
        video: the video or camera; None for pictures.
        folder: folder of the files; None without files.
        files: the files that are read, if known.
        note: one line about entries of the folder that are skipped, or "".
    """

    pictures: Iterable[Picture | Broken]
    kind: str
    total: int | None = None
    video: Video | None = None
    folder: Path | None = None
    files: Sequence[Path] = ()
    note: str = ""


def open_source(given: Any, reading: ReadOptions) -> Source:
    """Opens an input.

    Args:
        given: the path of a picture, folder or video, a pattern, the number of a camera, an array,
            a PIL picture, a tensor, a list of pictures, or an iterator of pictures.

    Raises:
        UserError: the file does not exist, the folder has no pictures, OpenCV cannot open the
            video, or the value is no picture.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, bool | bytes | Mapping | Set):
        raise UserError(f"a {type(given).__name__} is no picture: give a path, array or tensor")
    if isinstance(given, Integral):
        return _stream_of(Video(int(given), reading.max_pixels))
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


def _of_path(given: str, reading: ReadOptions) -> Source:
    _check_path(given)
    path = Path(os.path.expanduser(given))
    if path.is_dir():
        files, note = _pictures_of(path)
        return replace(of_files(files, reading, path), note=note)
    if is_video(path):
        return _stream_of(Video(path, reading.max_pixels))
    if not os.path.lexists(path) and glob.has_magic(str(path)):
        files = _matches(str(path))
        return of_files(files, reading, Path(os.path.commonpath([f.parent for f in files])))
    picture = read(path, reading, path.name)
    return Source([picture], ONE, 1, folder=path.parent, files=[path])


def _matches(pattern: str) -> list[Path]:
    """Lists the files of a pattern, with broken links, which are reported when they are read.

    Raises:
        UserError: no file matches, or one of the files is a video.
    """
    entries = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    files = [entry for entry in entries if os.path.isfile(entry) or is_broken_link(entry)]
    if not files:
        raise UserError(f"{pattern}: no file matches this pattern")
    for file in filter(is_video, files):
        raise lone_video(file)
    return files


def _check_path(given: str) -> None:
    """Raises UserError for a path that would be misunderstood: an empty text or an address."""
    if not given.strip():
        raise UserError(
            "the input is an empty text: give a picture, folder or video; . is the current folder"
        )
    if "://" in given and not os.path.lexists(given):
        raise UserError(f"{given}: addresses are not opened: download it and give the file")


def _pictures_of(folder: Path) -> tuple[list[Path], str]:
    """Lists the picture files of a folder, and notes other entries.

    Raises:
        UserError: the folder has no picture.
    """
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    named = [entry for entry in entries if entry.name.lower().endswith(IMAGE_ENDINGS)]
    files = [entry for entry in named if os.path.isfile(entry) or is_broken_link(entry)]
    endings, deeper = ", ".join(IMAGE_ENDINGS), f"{glob.escape(str(folder))}/**/*.jpg"
    if not files:
        video = next(filter(is_video, entries), None)
        hint = (
            f"give each video alone, as {video}"
            if video
            else f"for those in subfolders give {deeper}"
        )
        raise UserError(f"{folder}: the folder has no pictures ({endings}): {hint}")
    listed = set(files)
    others = [entry for entry in entries if entry not in listed]
    if not others:
        return files, ""
    return files, (
        f"{folder}: {len(others)} of {len(entries)} entries are skipped, such as "
        f"{printable(others[0].name)}: only {endings} are pictures; give a video by its path, and "
        f"pictures in subfolders as {deeper}"
    )


def of_files(files: Sequence[Path], reading: ReadOptions, folder: Path) -> Source:
    """Makes a stream of picture files, named by their paths below `folder`."""
    pictures = _read_each(files, reading, folder)
    return Source(pictures, STREAM, len(files), folder=folder, files=files)


def _read_each(
    files: Sequence[Path], reading: ReadOptions, folder: Path
) -> Iterator[Picture | Broken]:
    for file in files:
        try:
            yield read(file, reading, os.path.relpath(file, folder))
        except UserError as error:
            yield Broken(str(error))


def _picture_of_each(given: Iterable[Any], reading: ReadOptions) -> Iterator[Picture | Broken]:
    """Yields `Broken` for a path that fails; raises UserError for an object that is no picture."""
    for value in given:
        try:
            yield picture_of(value, reading)
        except UserError as error:
            if not isinstance(value, str | os.PathLike):
                raise
            yield Broken(str(error))


def _stream_of(video: Video) -> Source:
    files = [] if video.live else [Path(video.name)]
    return Source(video, STREAM, video.total, video, video.folder, files)


def chunks(pictures: Iterable[Picture | Broken], size: int) -> Iterator[list[Picture | Broken]]:
    """Yields lists of up to `size` pictures, each read when it is needed."""
    iterator = iter(pictures)
    while chunk := list(islice(iterator, size)):
        yield chunk
