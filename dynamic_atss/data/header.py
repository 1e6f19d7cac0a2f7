"""What the header of an image file tells, without decoding its pixels."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError

from dynamic_atss.errors import UserError
from dynamic_atss.progress import progress
from dynamic_atss.reading import FILE_BYTES, KB, MB, PICTURE_PARTS, open_file

PNG = b"\x89PNG\r\n\x1a\n"
# Pillow's own limit would refuse a header; INPUT.MAX_PIXELS is checked before anything is decoded,
# in all formats alike.
Image.MAX_IMAGE_PIXELS = None
PIL_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,  # what Pillow raises for a broken PNG
    EOFError,
    NotImplementedError,
    MemoryError,
    Image.DecompressionBombError,
    UnidentifiedImageError,
)
# Pillow's readers of pictures. Others start programs (EPS: Ghostscript) or are little looked after.
_READERS = "Jpeg Png Tiff WebP Bmp Gif Ppm Tga Jpeg2K Avif Ico".split()
for _reader in _READERS:
    with contextlib.suppress(ImportError):  # older versions of Pillow lack some
        importlib.import_module(f"PIL.{_reader}ImagePlugin")
_NAMES = "JPEG PNG TIFF WEBP BMP DIB GIF PPM TGA JPEG2000 AVIF ICO".split()
FORMATS = tuple(name for name in _NAMES if name in Image.OPEN)
_EXIF_BYTES = MB  # more is no EXIF
ORIENTATION = 274  # the tag of TIFF and EXIF
_INTEGERS = {1: "B", 3: "H", 4: "L"}  # types of a tag: how struct calls them
_THREADS, _CHUNK = 8, 64


class ImageHeader(NamedTuple):
    """height, width: as the pixels are stored, before any turn · orientation: EXIF's, 1..8; 1 (as
    stored) where there is none or it is broken · format: "JPEG", "PNG", "TIFF", "WEBP", "BMP", ...
    as Pillow calls them · bits: of a channel's value: 8, 16, 12 (JPEG), less in palettes, 32 ·
    ended: whether a JPEG or PNG has its mark of the end at the end, without which it may be cut ·
    channels: of a JPEG; 0: not looked for
    """

    height: int
    width: int
    orientation: int
    format: str
    bits: int
    ended: bool = True
    channels: int = 0

    @property
    def swaps(self) -> bool:
        """Whether the orientation exchanges height and width."""
        return self.orientation >= 5

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) of the picture as viewers show it."""
        return (self.width, self.height) if self.swaps else (self.height, self.width)


def image_header(path: str | Path) -> ImageHeader:
    """The header of one file. Reads a few hundred bytes; a PNG is walked through to its end, since
    its EXIF may stand there.

    Raises UserError: file missing or unreadable, no image. Pixels are not decoded: a broken file
    may pass, with `ended` False if it was cut.
    """
    try:
        with open_file(path, FILE_BYTES) as file:
            return header_of(file)
    except FileNotFoundError:
        raise missing(Path(path)) from None
    except PIL_ERRORS as error:
        raise undecodable(Path(path), reason(error)) from None


def header_of(file: BinaryIO) -> ImageHeader:
    """The header of an open file. Raises one of PIL_ERRORS: no image."""
    found = _jpeg_header(file) or _png_header(file) or _pillow_header(file)
    if not found.height * found.width:
        raise ValueError("no pixels")
    return found


def read_headers(paths: Sequence[str | Path], label: str) -> list[ImageHeader | UserError]:
    """The header of each file, in several threads, or what is wrong with it, in the same order.

    label: of the bar of progress
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


def _jpeg_header(file: BinaryIO) -> ImageHeader | None:
    """None where it is no JPEG, or its frame is not found: Pillow has a name for that fault."""
    orientation = 1
    for marker, size in _jpeg_segments(file):
        if marker == 0xE1 and orientation == 1:
            orientation = exif_orientation(file.read(min(size, 64 * KB)))
        elif is_frame(marker):
            frame = file.read(6)
            if len(frame) < 6:
                return None
            bits, height, width, channels = struct.unpack(">BHHB", frame)
            ended = _ends_with(file, b"\xff\xd9")
            return ImageHeader(height, width, orientation, "JPEG", bits, ended, channels)
    return None


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """(marker, bytes of its content) of the segments before the first scan; the file stands at
    the content."""
    if file.read(2) != b"\xff\xd8":
        return
    for _ in range(PICTURE_PARTS):
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA:
            return
        if head[1] == 0xFF:  # a fill byte
            file.seek(-3, 1)
            continue
        size = int.from_bytes(head[2:], "big") - 2
        end = file.tell() + size
        yield head[1], size
        file.seek(end)


def _ends_with(file: BinaryIO, mark: bytes) -> bool:
    file.seek(-len(mark), 2)
    return file.read() == mark


def is_frame(marker: int) -> bool:
    """Whether a JPEG segment is a frame header: C0..CF are, but for C4, C8 and CC."""
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _png_header(file: BinaryIO) -> ImageHeader | None:
    file.seek(0)
    head = file.read(33)
    if not head.startswith(PNG) or len(head) < 33:
        return None
    width, height, bits = struct.unpack(">LLB", head[16:25])
    orientation = 1
    for name, size in _png_chunks(file):
        if name == b"eXIf":
            orientation = exif_orientation(file.read(min(size, _EXIF_BYTES)))
    ended = _ends_with(file, b"IEND\xaeB`\x82")
    return ImageHeader(height, width, orientation, "PNG", bits, ended)


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(name, bytes of its content) of the chunks; the file stands at the content."""
    for _ in range(PICTURE_PARTS):
        head = file.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        end = file.tell() + size + 4
        yield head[4:], size
        file.seek(end)
    raise ValueError(f"more than {PICTURE_PARTS} chunks")


def _pillow_header(file: BinaryIO) -> ImageHeader:
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        kind = str(image.format)
        tags: Any = getattr(image, "tag_v2", None)
        if kind == "TIFF" and tags is not None:
            return _tiff_header(image, tags)
        orientation = exif_orientation(image.info.get("exif") or b"")
        return ImageHeader(image.height, image.width, orientation, kind, _bits(image.mode))


def _tiff_header(image: Image.Image, tags: Any) -> ImageHeader:
    """Pillow exchanges the sides of a TIFF that is to be turned: here they are the stored ones."""
    orientation = _valid(tags.get(ORIENTATION))
    sides = (image.height, image.width)
    height, width = sides[::-1] if orientation >= 5 else sides
    return ImageHeader(height, width, orientation, "TIFF", max(tags.get(258) or (8,)))


def _bits(mode: str) -> int:
    """Of Pillow's modes, such as "1", "L", "RGB", "I;16B"."""
    if mode == "1":
        return 1
    if mode.startswith("I;16"):
        return 16
    return 32 if mode in ("I", "F") else 8


def exif_orientation(exif: bytes) -> int:
    """1..8 of an EXIF block, with or without its mark "Exif\\0\\0"; 1 where it is not there or
    broken."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        at = struct.unpack_from(order + "L", block, 4)[0]
        count = struct.unpack_from(order + "H", block, at)[0]
        for i in range(count):
            tag, kind = struct.unpack_from(order + "HH", block, at + 2 + 12 * i)
            if tag == ORIENTATION:
                code = order + _INTEGERS[kind]
                return _valid(struct.unpack_from(code, block, at + 10 + 12 * i)[0])
    except (struct.error, KeyError):
        pass
    return 1


def _valid(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def check_pixels(path: Path, header: ImageHeader, most: int) -> None:
    """Raises UserError: the image has more than `most` pixels."""
    if header.height * header.width > most:
        raise UserError(
            f"{path}: {header.width} x {header.height} pixels, more than INPUT.MAX_PIXELS {most}: "
            f"raise it (decoded they take {header.height * header.width * 3 / 1e9:.1f} GB), or cut "
            "the image into tiles"
        )


def check_readable(path: Path, header: ImageHeader) -> None:
    """Raises UserError: the pixels have 32 bits or more, which no image is decoded from."""
    if header.bits > 16:
        raise undecodable(path, "32-bit pixels, whose range is not known; 8 and 16 bits are read")


def missing(path: Path) -> UserError:
    return UserError(
        f"{path}: no such image: check the image folder and the annotations' file_name"
    )


def reason(error: BaseException) -> str:
    """An error of Pillow's in one line."""
    text = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def undecodable(path: Path, why: str) -> UserError:
    return UserError(
        f"{path}: the image cannot be decoded ({why}): replace the file or leave it out"
    )
