"""Image files -> uint8 tensors, and their resize.

Tensors are (3, H, W) RGB with the memory of an (H, W, 3) array: what decoders write, and the layout
for which the resize, the flip and the copy into a batch are fastest.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.system_limits import limit_reached

_DECODE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_PNG = b"\x89PNG\r\n\x1a\n"
_PIL_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,  # what Pillow raises for a broken PNG
    EOFError,
    NotImplementedError,
    MemoryError,
    Image.DecompressionBombError,
    UnidentifiedImageError,
)


def read_image(path: str | Path) -> Tensor:
    """(3, H, W) uint8 RGB, EXIF orientation ignored; the pixels of Pillow's `convert("RGB")`.

    Alpha is dropped, grey is repeated, CMYK and palettes are converted. One deviation: 16-bit grey
    is scaled to 8 bits, where Pillow cuts everything above 255 to white.
    Raises UserError: file missing, empty, truncated, of 32-bit pixels, or no image.
    """
    data = _read_bytes(Path(path))
    if data.startswith(_PNG):
        pixels = _decode_png(data, Path(path))
    elif _opencv_is_right_about_jpeg(data) and (found := _decode_with_opencv(data)) is not None:
        pixels = found
    else:
        pixels = _decode_with_pillow(data, Path(path))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) from the header, without decoding and without EXIF orientation."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise _missing(Path(path)) from None
    except _PIL_ERRORS as error:
        raise _undecodable(Path(path), _reason(error)) from None


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """(3, height, width) uint8: Pillow's bilinear resize with antialias, within one grey level.

    PyTorch's kernel is Pillow's with 16-bit weights: about two values in a thousand differ by one,
    and 4 in 10 million by two (159 COCO images at 320). `resize_with_pillow` has no difference.
    """
    if image.shape[1:] == (height, width):
        return image
    # The batch axis first: after the permutation its stride would hide the channels-last memory,
    # for which the kernel is three times as fast (benchmarks/image_loading.py).
    batch = image.permute(1, 2, 0).contiguous()[None].permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)[
        0
    ]


def resize_with_pillow(image: Tensor, height: int, width: int) -> Tensor:
    """(3, height, width) uint8: the releases' own resize, several times slower."""
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(pixels.resize((width, height), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        advice = limit_reached(error) or f"cannot be read ({error.strerror}): check the file"
        raise UserError(f"{path}: {advice}") from None


def _decode_with_opencv(data: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8; None where OpenCV does not take the file, for any reason."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE)
    except cv2.error:  # more pixels than it is willing to decode
        return None


def _decode_png(data: bytes, path: Path) -> np.ndarray:
    """(H, W, 3) uint8. OpenCV notices pixel data that end early, which Pillow fills up with black;
    Pillow has the right pixels of all kinds."""
    pixels = _decode_with_opencv(data) if _png_reaches_its_end(data) else None
    if pixels is None:
        _decode_with_pillow(data, path)  # if it sees the fault, too, it has a name for it
        raise _undecodable(path, "the file ends too early")
    # Byte 24, bits; byte 25, colour type: 0 grey, 2 RGB, 6 RGBA; not 3 palette, 4 grey with alpha.
    opencv_is_right = data[24] >= 8 and data[25] in (0, 2, 6)
    return pixels if opencv_is_right else _decode_with_pillow(data, path)


def _png_reaches_its_end(data: bytes) -> bool:
    """Whether all chunks (length, name, content, checksum) are there, up to the one named IEND."""
    at = len(_PNG)
    while at + 12 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return at + 12 <= len(data)


def _opencv_is_right_about_jpeg(data: bytes) -> bool:
    """Whether OpenCV decodes this JPEG completely and to Pillow's pixels: it does not say."""
    is_jpeg = data.startswith(b"\xff\xd8")
    return is_jpeg and _jpeg_is_complete(data) and _jpeg_components(data) in (1, 3)


def _jpeg_is_complete(data: bytes) -> bool:
    """An end marker after the last start of a scan; within a scan FF is escaped.

    The order matters because the thumbnail in an EXIF header has an end marker of its own.
    """
    return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda") > 0


def _jpeg_components(data: bytes) -> int:
    """The number of colour components of an 8-bit JPEG; 0 where the frame header is not found."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        # C0..CF are frame headers, but for C4, C8 and CC.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 9] if data[at + 4] == 8 else 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def _decode_with_pillow(data: bytes, path: Path) -> np.ndarray:
    """(H, W, 3) uint8; Pillow is slower, and refuses files that end too early."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            kind = image.mode
            # Older versions of Pillow open PNGs of 16 bits as "I".
            if kind.startswith("I;16") or (kind, image.format) == ("I", "PNG"):
                return _high_byte(np.asarray(image))
            if kind not in ("I", "F"):
                return np.array(image.convert("RGB"))
    except _PIL_ERRORS as error:
        raise _undecodable(path, _reason(error)) from None
    raise _undecodable(path, "32-bit pixels, whose range is not known; 8 and 16 bits are read")


def _high_byte(grey: np.ndarray) -> np.ndarray:
    return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)


def _missing(path: Path) -> UserError:
    return UserError(
        f"{path}: no such image: check the image folder and the annotations' file_name"
    )


def _reason(error: BaseException) -> str:
    text = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _undecodable(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: the image cannot be decoded ({reason}): "
        "replace the file or take it out of the annotations"
    )
