"""Reads image files into uint8 tensors, and resizes them.

Tensors are (3, H, W) RGB with the memory order of an (H, W, 3) array. Decoders write this order.
Resize, flip and the copy into a batch are fastest in it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dynamic_atss.data.header import (
    DEEP_PIXELS,
    FORMATS,
    PIL_ERRORS,
    check_pixels,
    header_of,
    missing,
    reason,
    undecodable,
)
from dynamic_atss.data.headers.record import ORIENTATION, ImageHeader
from dynamic_atss.data.png import DamagedPng, strip_metadata
from dynamic_atss.errors import UserError
from dynamic_atss.reading import BYTES_PER_PIXEL, FILE_BYTES, PICTURE_BYTES, open_file
from dynamic_atss.system_limits import limit_reached

MAX_PIXELS = 300_000_000  # 0.9 GB decoded; enough for aerial scenes
_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
_INVERSE = {6: 8, 8: 6}  # each other turn undoes itself


def read_image(
    path: str | Path, *, orientation: int = 1, max_pixels: int = MAX_PIXELS, bits: int = 0
) -> Tensor:
    """Reads an image (3, H, W) uint8 RGB with the pixels of Pillow's `convert("RGB")`.

    Drops alpha, repeats grey, converts CMYK and palettes. There is one difference: 16-bit grey is
    scaled to 8 bits, where Pillow makes all values above 255 white.

    Args:
        orientation: the turn to apply, as a number of EXIF. 1 is none. The orientation in the file
            is ignored.
        max_pixels: refuses a larger image before it is decoded.
        bits: number of bits that 16-bit files use, 8..16. Larger values become white. 0 is all 16.

    Raises UserError for a file that is missing, empty, truncated or not an image, and for too many
    pixels or pixels of 32 bits.
    """
    path = Path(path)
    data, header = _read_picture(path, max_pixels)
    pixels = _decode(data, path, header, bits if header.bits == 16 else 0)
    _check_size(path, header, pixels.shape[:2])
    return torch.from_numpy(apply_orientation(pixels, orientation)).permute(2, 0, 1)


def check_end(path: Path, header: ImageHeader, max_pixels: int) -> None:
    """Raises UserError for a truncated file. Decodes only files without an end mark."""
    if header.ended:
        return
    if header.format == "JPEG":
        data, _ = _read_picture(path, max_pixels)
        if _jpeg_is_complete(data):  # cameras append bytes after the end mark
            return
    read_image(path, max_pixels=max_pixels)


def apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels (H, W, C) upright, by an EXIF orientation."""
    turn = _TURNS.get(orientation)
    return turn(pixels) if turn else pixels


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resizes to (3, height, width) uint8, nearly as Pillow's bilinear resize does.

    PyTorch's kernel is Pillow's with 16-bit weights. About two values in a thousand differ by one
    grey level, and 4 in 10 million by two (159 COCO images at 320). `resize_with_pillow` has no
    differences.
    """
    if image.shape[1:] == (height, width):
        return image
    # Add the batch axis before the permutation. Otherwise torch does not see that the memory is
    # channels-last, for which the kernel is three times as fast (benchmarks/image_loading.py).
    batch = image.permute(1, 2, 0).contiguous()[None].permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)[
        0
    ]


def resize_with_pillow(image: Tensor, height: int, width: int) -> Tensor:
    """Resizes to (3, height, width) uint8 exactly as the releases do.

    It is several times slower.
    """
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(pixels.resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1)


def _read_picture(path: Path, max_pixels: int) -> tuple[bytes, ImageHeader]:
    """Reads the bytes of a file and its header. Raises UserError as `read_image` does."""
    try:
        with open_file(path, FILE_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            if size > PICTURE_BYTES:  # a smaller file is read at once, which is faster
                _check_bytes(path, _header(file, path, max_pixels), size)
                file.seek(0)
            data = file.read()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        advice = limit_reached(error) or f"cannot be read ({error.strerror}): check the file"
        raise UserError(f"{path}: {advice}") from None
    return data, _header(io.BytesIO(data), path, max_pixels)


def _check_bytes(path: Path, header: ImageHeader, size: int) -> None:
    """Raises UserError if the file is larger than its number of pixels can need."""
    most = header.height * header.width * BYTES_PER_PIXEL + PICTURE_BYTES
    if size > most:
        raise UserError(
            f"{path}: {size:,} bytes for {header.width} x {header.height} pixels, which need at "
            f"most {most:,}: save the picture again"
        )


def _header(file: BinaryIO, path: Path, max_pixels: int) -> ImageHeader:
    try:
        header = header_of(file)
    except PIL_ERRORS as error:
        raise undecodable(path, reason(error)) from None
    check_pixels(path, header, max_pixels)
    return header


def _check_size(path: Path, header: ImageHeader, size: Sequence[int]) -> None:
    """Raises UserError if a decoder found another size than the header.

    Args:
        path: the file, for the message.
        header: the header of the file.
        size: both sides in any order, because Pillow exchanges those of a TIFF that it will turn.
    """
    if sorted(size) != sorted((header.height, header.width)):
        raise undecodable(path, "header and pixels differ in size")


def _decode(data: bytes, path: Path, header: ImageHeader, bits: int) -> np.ndarray:
    """Decodes to (H, W, 3) uint8.

    Args:
        data: the bytes of the file.
        path: the file, for messages.
        header: its header.
        bits: number of used bits of a 16-bit file. 0 means all. It is also 0 for other files.
    """
    if header.format == "PNG":
        return _decode_png(data, path, header, bits)
    if _opencv_is_right_about_jpeg(data, header):
        pixels = _decode_with_opencv(data)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, path, header, bits)


def _decode_with_opencv(data: bytes, bits: int = 0) -> np.ndarray | None:
    """Decodes to (H, W, 3) uint8. Returns None if OpenCV refuses the file."""
    pixels = _opencv(data, _DECODE | (cv2.IMREAD_ANYDEPTH if bits else 0))
    return pixels if pixels is None or not bits else _to_eight_bits(pixels, bits)


def _opencv(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # the image has more pixels than OpenCV's limit
        return None


def _decode_png(data: bytes, path: Path, header: ImageHeader, bits: int) -> np.ndarray:
    """Decodes to (H, W, 3) uint8.

    OpenCV detects truncated pixel data, which Pillow fills with black. Pillow has the right pixels
    of all kinds of PNG.
    """
    try:
        pixels, fault = _decode_with_opencv(strip_metadata(data), bits), "it is truncated"
    except DamagedPng as error:
        pixels, fault = None, str(error)
    if pixels is None:
        _decode_with_pillow(data, path, header, 0)  # may raise a more precise error
        raise undecodable(path, fault)
    # Byte 24 is the number of bits. Byte 25 is the colour type: 0 grey, 2 RGB, 3 palette, 4 grey
    # with alpha, 6 RGBA.
    opencv_is_right = data[24] >= 8 and data[25] in (0, 2, 6)
    return pixels if opencv_is_right else _decode_with_pillow(data, path, header, bits)


def _opencv_is_right_about_jpeg(data: bytes, header: ImageHeader) -> bool:
    """Returns True if OpenCV decodes this JPEG completely and to Pillow's pixels.

    OpenCV does not report truncated files.
    """
    common = header.format == "JPEG" and header.bits == 8 and header.channels in (1, 3)
    return common and _jpeg_is_complete(data)


def _jpeg_is_complete(data: bytes) -> bool:
    """Returns True if an end marker follows the start of the last scan, in which FF is escaped.

    The order matters, because the thumbnail in an EXIF header has an end marker, too.
    """
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0


def _decode_with_pillow(data: bytes, path: Path, header: ImageHeader, bits: int) -> np.ndarray:
    """Decodes to (H, W, 3) uint8, as stored. Pillow is slower, but refuses truncated files."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(path, header, image.size)  # it may exceed MAX_PIXELS
            turn = _turn_of_pillow(image)
            image.load()
            pixels = _pixels_of_pillow(image, path, bits)
            if bits and image.mode.startswith("RGB"):
                pixels = _deep_colours(data, pixels, path, bits)
    except PIL_ERRORS as error:
        raise undecodable(path, reason(error)) from None
    return apply_orientation(pixels, _INVERSE.get(turn, turn))


def _turn_of_pillow(image: Image.Image) -> int:
    """Returns the orientation that Pillow applies on loading. It does so only for TIFF."""
    return image.getexif().get(ORIENTATION, 1) if image.format == "TIFF" else 1


def _pixels_of_pillow(image: Image.Image, path: Path, bits: int) -> np.ndarray:
    kind = image.mode
    # Older versions of Pillow open PNGs of 16 bits as "I".
    if kind.startswith("I;16") or (kind, image.format) == ("I", "PNG"):
        grey = _to_eight_bits(np.asarray(image), bits or 16)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if kind in ("I", "F"):
        raise undecodable(path, DEEP_PIXELS)
    return np.array(image.convert("RGB"))


def _deep_colours(data: bytes, high: np.ndarray, path: Path, bits: int) -> np.ndarray:
    """Decodes colours of 16 bits to (H, W, 3) uint8 with OpenCV.

    OpenCV turns a TIFF as Pillow does.

    Args:
        data: the bytes of the file.
        high: the highest 8 bits of each value, from Pillow. OpenCV's must be the same.
        path: the file, for the message.
        bits: number of used bits.

    Raises UserError if they differ.
    """
    # The order is BGR, because OpenCV 5 has a fault with RGB in TIFF files of 16 bits.
    found = _opencv(data, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
    if found is None or not np.array_equal(found[:, :, ::-1] >> 8, high):
        raise UserError(
            f"{path}: INPUT.BITS {bits} is supported for grey images and for colours in PNG and "
            "usual TIFF files: convert the file to such a PNG, or set INPUT.BITS 0"
        )
    return np.ascontiguousarray(_to_eight_bits(found, bits)[:, :, ::-1])


def _to_eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Scales 16-bit values that use the lowest `bits` to uint8. Larger values become 255."""
    return np.minimum(values >> (bits - 8), 255).astype(np.uint8)
