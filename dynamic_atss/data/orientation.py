"""Decides which images are turned upright by their EXIF orientation.

Boxes belong to the picture that the annotation tool showed: upright, as viewers show it, or as
stored. The annotated size shows which one it was if the turn exchanges the sides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynamic_atss.data.header import check_pixels, check_readable
from dynamic_atss.data.header_cache import cached_headers
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.image import MAX_PIXELS, check_end
from dynamic_atss.errors import UserError

EXIF = ("auto", "apply", "ignore")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadOptions:
    """Describes how to read the image files of a data set.

    Attributes:
        exif: "apply" turns pictures upright, "ignore" reads them as stored, "auto" decides by the
            annotated sizes.
        max_pixels, bits: as in `read_image`.
        headers: reads the headers of all files when the set is opened. False reads images as
            stored, unless `exif` is "apply".
        outside: allows files outside of the image folder (see `data.path_check`).
    """

    exif: str = "auto"
    max_pixels: int = MAX_PIXELS
    bits: int = 0
    headers: bool = True
    outside: bool = False

    @property
    def as_stored(self) -> bool:
        """Returns True if no headers have to be read."""
        return not self.headers and self.exif != "apply"


DEFAULT_READ_OPTIONS = ReadOptions()


@dataclass(frozen=True)
class Orientations:
    """Holds the sizes and turns of n images.

    Attributes:
        sizes: (n, 2) int64 height, width as the images are read.
        orientation: (n,) uint8, the turn to apply. 1 is none.
        sideways: (n,) bool, True for images read as stored whose orientation would exchange the
            sides.
        exif: "apply" or "ignore". It says how to read more pictures of the same source.
    """

    sizes: np.ndarray
    orientation: np.ndarray
    sideways: np.ndarray
    exif: str = "ignore"


def find_orientations(
    given: np.ndarray, folder: Path, names: Sequence[str], reading: ReadOptions, source: str
) -> tuple[Orientations, list[ImageHeader]]:
    """Reads the headers of all files, decides which images to turn, and logs it.

    Args:
        given: (n, 2) annotated height, width, or 0 if missing.
        folder: the image folder.
        names: the files, relative to `folder`.
        reading: how to read the files.
        source: the name of the annotations in messages.

    Raises UserError, with the number of files, for a file that is missing, not an image or
    truncated, or that has too many pixels.
    """
    paths = [folder / name for name in names]
    found = cached_headers(folder, names, f"headers of {source}")
    headers = [_checked(header, path, reading) for header, path in zip(found, paths, strict=True)]
    _raise_first([header for header in headers if isinstance(header, UserError)], len(paths))
    good = [header for header in headers if isinstance(header, ImageHeader)]
    stored = np.array([header[:2] for header in good], np.int64).reshape(-1, 2)
    orientation = np.array([header.orientation for header in good], np.uint8)
    turned = upright(given, stored, orientation, reading.exif)
    if (orientation > 1).any():
        by_size = reading.exif == "auto" and any(
            mask.any() for mask in _known_by_size(given, stored, orientation)
        )
        _log_orientations(paths, orientation, turned, _reason(reading.exif, by_size), source)
    swapped = turned & (orientation >= 5)
    sizes = np.where(swapped[:, None], stored[:, ::-1], stored)
    applied = np.where(turned, orientation, 1).astype(np.uint8)
    exif = "apply" if _is_mostly_upright(given, stored, orientation, reading.exif) else "ignore"
    return Orientations(sizes, applied, ~turned & (orientation >= 5), exif), good


def upright(
    given: np.ndarray, stored: np.ndarray, orientation: np.ndarray, exif: str
) -> np.ndarray:
    """Returns (n,) bool, True for the images to turn by their orientation.

    "auto" turns images whose annotated size is that of the upright picture. The size does not
    decide if the image is square, upside down, mirrored or has no size. Then the majority of the
    data set decides. If there is no majority, the image is turned.

    Args:
        given: (n, 2) annotated height, width, or 0 if missing.
        stored: (n, 2) height, width of the stored pixels.
        orientation: (n,) the EXIF orientations.
        exif: "auto", "apply" or "ignore".
    """
    marked = orientation > 1
    mostly = _is_mostly_upright(given, stored, orientation, exif)
    if exif != "auto":
        return marked & mostly
    turned, as_stored = _known_by_size(given, stored, orientation)
    return turned | (marked & ~as_stored & mostly)


def _is_mostly_upright(
    given: np.ndarray, stored: np.ndarray, orientation: np.ndarray, exif: str
) -> bool:
    """Returns True if the pictures whose annotated size does not decide are to be turned."""
    if exif != "auto":
        return exif == "apply"
    turned, as_stored = _known_by_size(given, stored, orientation)
    return bool(turned.sum() >= as_stored.sum())


def _known_by_size(
    given: np.ndarray, stored: np.ndarray, orientation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the images whose annotated size fits only the upright or only the stored picture.

    Returns (n,) bool for those that fit the upright one, and (n,) bool for the stored one.
    """
    decides = (orientation >= 5) & (stored[:, 0] != stored[:, 1])
    return decides & (given == stored[:, ::-1]).all(1), decides & (given == stored).all(1)


def _checked(
    header: ImageHeader | UserError, path: Path, reading: ReadOptions
) -> ImageHeader | UserError:
    if isinstance(header, ImageHeader):
        try:
            check_pixels(path, header, reading.max_pixels)
            check_readable(path, header)
            check_end(path, header, reading.max_pixels)
        except UserError as error:
            return error
    return header


def _raise_first(errors: Sequence[UserError], total: int) -> None:
    if len(errors) > 1:
        raise UserError(f"{errors[0]} ({len(errors)} of {total} images have such a fault)")
    if errors:
        raise errors[0]


def _reason(exif: str, by_size: bool) -> str:
    if exif != "auto":
        return f"by INPUT.EXIF {exif}"
    reason = "by the annotated sizes" if by_size else "as viewers do, because no size decides"
    return f"{reason} (INPUT.EXIF auto; or apply, ignore)"


def _log_orientations(
    paths: Sequence[Path], orientation: np.ndarray, turned: np.ndarray, reason: str, source: str
) -> None:
    marked = orientation > 1
    first = int(np.argmax(marked))
    _log.info(
        "%s: %d of %d images have an EXIF orientation, such as %r (%d). %d are turned upright and "
        "%d read as stored, %s",
        source,
        marked.sum(),
        len(paths),
        str(paths[first]),
        orientation[first],
        turned.sum(),
        (marked & ~turned).sum(),
        reason,
    )
