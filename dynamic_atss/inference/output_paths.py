"""Names the files that a prediction writes, and protects those that it reads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from dynamic_atss.data.voc_names import IMAGE_ENDINGS
from dynamic_atss.errors import UserError
from dynamic_atss.inference.sources import Source
from dynamic_atss.inference.video import CODECS, Video

RESULTS, TABLE = "detections.json", "detections.csv"
DEFAULT_FOLDER = Path("output/predict")


def output_folder(given: str, source: Source, *, pictures: bool, overwrite: bool) -> Path:
    """Returns the folder for the files: `given`, or a new output/predict, output/predict-2, ...

    Args:
        pictures: True if drawn pictures or a video are written, too.

    Raises:
        UserError: the folder is not empty, or a file to read would be overwritten.
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
    _check_files(folder, source, pictures)
    return folder


def _check_files(folder: Path, source: Source, pictures: bool) -> None:
    """Raises UserError if a file to write is a folder, or is one of the files to read.

    It may be one of them through a link.
    """
    read = {_identity(file) for file in source.files} - {None}
    for path in map(folder.joinpath, _written(source, pictures)):
        if path.is_dir():
            raise UserError(f"--output {folder}: {path} is a folder; give another --output")
        if _identity(path) in read:
            raise UserError(
                f"--output {folder}: {path} is also read, by its name or a link, and would be "
                "overwritten; give another folder"
            )


def _written(source: Source, pictures: bool) -> Iterator[str]:
    """Names the files to write, relative to the folder."""
    yield from (RESULTS, TABLE)
    if pictures and source.video is not None:
        yield from (f"{video_stem(source.video)}{ending}" for _, ending in CODECS)
    elif pictures and source.folder is not None:
        yield from (picture_name(os.path.relpath(file, source.folder)) for file in source.files)


def _identity(path: Path) -> tuple[int, int] | None:
    """Identifies a file by its device and number; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def picture_name(name: str) -> str:
    """Names the drawn picture like its file; adds .png if OpenCV cannot write that format."""
    return name if name.lower().endswith(IMAGE_ENDINGS) else f"{name}.png"


def video_stem(video: Video) -> str:
    """Names the drawn video like its file, without the ending."""
    return Path(video.name).stem.replace(" ", "_")
