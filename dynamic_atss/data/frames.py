"""Which way is up: the size of each image and the EXIF orientation by which it is turned.

Boxes lie in the frame that their tool showed: the upright one, as viewers show pictures, or that of
the stored pixels. The sizes in the annotations tell, where the turn exchanges the sides.
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
class Reading:
    """How the image files of a data set become pixels.

    exif: "apply" turns pictures upright, "ignore" leaves them as stored, "auto" goes by the sizes
    in the annotations · max_pixels, bits: as `read_image` · headers: whether the headers of all
    files are read when the set is opened; False: as stored, unless `exif` is "apply" · outside:
    whether files may lie outside of the image folder (see `data.inside`)
    """

    exif: str = "auto"
    max_pixels: int = MAX_PIXELS
    bits: int = 0
    headers: bool = True
    outside: bool = False

    @property
    def as_stored(self) -> bool:
        """Whether no header has to be read."""
        return not self.headers and self.exif != "apply"


AS_USUAL = Reading()


@dataclass(frozen=True)
class Frames:
    """sizes (n, 2) int64 height, width as the images are read · orientation (n,) uint8, the turn of
    each; 1: none · lying (n,) bool, those read as stored whose turn would exchange the sides ·
    exif: "apply" or "ignore", how further pictures of this kind are to be read"""

    sizes: np.ndarray
    orientation: np.ndarray
    lying: np.ndarray
    exif: str = "ignore"


def find_frames(
    given: np.ndarray, folder: Path, names: Sequence[str], reading: Reading, source: str
) -> tuple[Frames, list[ImageHeader]]:
    """Reads the headers of all files, decides which way is up, and says so in the log.

    given (n, 2): height, width in the annotations, 0 where they have none · source: how messages
    call them

    Raises UserError: a file is missing, no image, cut, or has too many pixels; with their count.
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
        told = reading.exif == "auto" and any(m.any() for m in _told(given, stored, orientation))
        _log_frames(paths, orientation, turned, _why(reading.exif, told), source)
    swapped = turned & (orientation >= 5)
    sizes = np.where(swapped[:, None], stored[:, ::-1], stored)
    done = np.where(turned, orientation, 1).astype(np.uint8)
    exif = "apply" if _is_upright(given, stored, orientation, reading.exif) else "ignore"
    return Frames(sizes, done, ~turned & (orientation >= 5), exif), good


def upright(
    given: np.ndarray, stored: np.ndarray, orientation: np.ndarray, exif: str
) -> np.ndarray:
    """(n,) bool: the images that are turned by their orientation.

    "auto": those whose given size is that of the upright picture. Where it cannot tell (square,
    upside down or mirrored, no size) as most of the data set that can; if none can, upright.
    """
    marked = orientation > 1
    mostly = _is_upright(given, stored, orientation, exif)
    if exif != "auto":
        return marked & mostly
    turned, as_stored = _told(given, stored, orientation)
    return turned | (marked & ~as_stored & mostly)


def _is_upright(given: np.ndarray, stored: np.ndarray, orientation: np.ndarray, exif: str) -> bool:
    """Whether a picture is turned whose given size does not tell."""
    if exif != "auto":
        return exif == "apply"
    turned, as_stored = _told(given, stored, orientation)
    return bool(turned.sum() >= as_stored.sum())


def _told(
    given: np.ndarray, stored: np.ndarray, orientation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool each: the images whose given size is that of the upright picture alone, and that
    of the stored pixels alone."""
    tells = (orientation >= 5) & (stored[:, 0] != stored[:, 1])
    return tells & (given == stored[:, ::-1]).all(1), tells & (given == stored).all(1)


def _checked(
    header: ImageHeader | UserError, path: Path, reading: Reading
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
        raise UserError(f"{errors[0]} (so {len(errors)} of {total} images)")
    if errors:
        raise errors[0]


def _why(exif: str, told: bool) -> str:
    if exif != "auto":
        return f"by INPUT.EXIF {exif}"
    by_size, by_habit = "as the sizes in the annotations say", "as viewers show them: no size tells"
    return f"{by_size if told else by_habit} (INPUT.EXIF auto; or apply, ignore)"


def _log_frames(
    paths: Sequence[Path], orientation: np.ndarray, turned: np.ndarray, why: str, source: str
) -> None:
    marked = orientation > 1
    first = int(np.argmax(marked))
    _log.info(
        "%s: %d of %d images have an EXIF orientation, such as %r (%d). %d are turned upright and "
        "%d read as stored, %s",
        *(source, marked.sum(), len(paths), str(paths[first]), orientation[first]),
        *(turned.sum(), (marked & ~turned).sum(), why),
    )
