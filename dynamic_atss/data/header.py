"""Reads the headers of image files without decoding pixels."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from dynamic_atss.data.headers.gif import gif_header
from dynamic_atss.data.headers.jpeg import jpeg_header
from dynamic_atss.data.headers.others import other_header
from dynamic_atss.data.headers.png import png_header
from dynamic_atss.data.headers.record import ImageHeader
from dynamic_atss.data.headers.tiff import tiff_header
from dynamic_atss.data.headers.webp import webp_header
from dynamic_atss.errors import UserError
from dynamic_atss.progress import progress
from dynamic_atss.reading import FILE_BYTES, open_file

# Pillow's limit would refuse some headers. INPUT.MAX_PIXELS is checked before decoding any format.
Image.MAX_IMAGE_PIXELS = None
PIL_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,  # Pillow raises it for a damaged PNG
    EOFError,
    NotImplementedError,
    MemoryError,
    Image.DecompressionBombError,
    UnidentifiedImageError,
)
# Only these readers of Pillow are used. Others start programs, as EPS starts Ghostscript, or are
# hardly maintained.
_READERS = "Jpeg Png Tiff WebP Bmp Gif Ppm Tga Jpeg2K Avif".split()
for _reader in _READERS:
    with contextlib.suppress(ImportError):  # older versions of Pillow lack some
        importlib.import_module(f"PIL.{_reader}ImagePlugin")
_NAMES = "JPEG PNG TIFF WEBP BMP DIB GIF PPM TGA JPEG2000 AVIF".split()
FORMATS = tuple(name for name in _NAMES if name in Image.OPEN)
_READ_HERE = {
    "JPEG": jpeg_header,
    "PNG": png_header,
    "TIFF": tiff_header,
    "WEBP": webp_header,
    "GIF": gif_header,
}
_OTHERS = tuple(name for name in FORMATS if name not in _READ_HERE)
_THREADS, _CHUNK = 8, 64
DEEP_PIXELS = "its pixels have 32 bits, of unknown range; 8 and 16 bits are supported"


def image_header(path: str | Path) -> ImageHeader:
    """Reads the header of an image file, which usually has a few hundred bytes.

    Goes through all chunks of a PNG, because EXIF may be in the last one. Does not decode pixels,
    so that a damaged file may pass. `ended` is False for a truncated one.

    Raises UserError for a file that is missing, unreadable or not an image.
    """
    try:
        with open_file(path, FILE_BYTES) as file:
            return header_of(file)
    except FileNotFoundError:
        raise missing(Path(path)) from None
    except PIL_ERRORS as error:
        raise undecodable(Path(path), reason(error)) from None


def header_of(file: BinaryIO) -> ImageHeader:
    """Reads the header of an open file. Raises one of PIL_ERRORS if it is not an image."""
    found = next(filter(None, (read(file) for read in _READ_HERE.values())), None)
    found = found or other_header(file, _OTHERS)
    if not found.height * found.width:
        raise ValueError("no pixels")
    return found


def read_headers(paths: Sequence[str | Path], label: str) -> list[ImageHeader | UserError]:
    """Reads the headers of files in several threads. Returns an error in place of a bad header.

    Args:
        paths: the files.
        label: the label of the progress bar.
    """
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as threads:
        found = progress(threads.map(_headers, chunks), label, len(chunks))
        return list(itertools.chain.from_iterable(found))


def _headers(paths: Sequence[str | Path]) -> list[ImageHeader | UserError]:
    return [_header_or_error(path) for path in paths]


def _header_or_error(path: str | Path) -> ImageHeader | UserError:
    try:
        return image_header(path)
    except UserError as error:
        return error


def check_pixels(path: Path, header: ImageHeader, most: int) -> None:
    """Raises UserError if the image has more than `most` pixels."""
    if header.height * header.width > most:
        raise UserError(
            f"{path}: {header.width} x {header.height} pixels, more than INPUT.MAX_PIXELS {most}: "
            f"raise it (the pixels take {header.height * header.width * 3 / 1e9:.1f} GB), or cut "
            "the image into tiles"
        )


def check_readable(path: Path, header: ImageHeader) -> None:
    """Raises UserError for pixels of more than 16 bits."""
    if header.bits > 16:
        raise undecodable(path, DEEP_PIXELS)


def missing(path: Path) -> UserError:
    return UserError(
        f"{path}: no such image: check the image folder and the file_name of the annotations"
    )


def reason(error: BaseException) -> str:
    """Formats an error of Pillow in one line."""
    text = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def undecodable(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: the image cannot be decoded ({why}): replace the file or leave it out"
    )
