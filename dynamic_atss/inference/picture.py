"""Reads one picture from a file, an array, a PIL picture or a tensor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dynamic_atss.data.header import PIL_ERRORS, image_header, reason, undecodable
from dynamic_atss.data.image import read_image
from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import path_advice

_VIDEO_ENDINGS = [f".{x}" for x in "mp4 avi mov mkv webm m4v mpg mpeg wmv flv".split()]


@dataclass(frozen=True)
class Picture:
    """Holds a picture or a frame of a video.

    Attributes:
        image: (3, H, W) uint8 RGB.
        name: name of the file; "" without a file.
        frame: number of the frame, from 1; None for a picture.
        path: path of the file of a picture; None without a file.
    """

    image: Tensor
    name: str = ""
    frame: int | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Broken:
    """Stands for a picture or frame that cannot be read.

    Attributes:
        message: one line.
    """

    message: str


def read(path: Path, reading: ReadOptions, name: str = "") -> Picture:
    """Reads a picture file, turned by its EXIF orientation if the training turned its pictures.

    Args:
        name: name of the picture; its path by default.

    Raises:
        UserError: the file is missing, unreadable or a video, or has too many pixels.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such picture, folder or video: {path_advice(path)}")
    if is_broken_link(path):
        raise UserError(
            f"{path}: is a link to {os.readlink(path)}, which cannot be found: correct or remove it"
        )
    if is_video(path):
        raise lone_video(path)
    turn = image_header(path).orientation if reading.exif == "apply" else 1
    image = read_image(path, orientation=turn, max_pixels=reading.max_pixels, bits=reading.bits)
    return Picture(image, name or str(path), path=path)


def is_video(path: Path) -> bool:
    """Returns True if the path is a file with the ending of a video."""
    return path.suffix.lower() in _VIDEO_ENDINGS and os.path.isfile(path)


def is_broken_link(path: Path) -> bool:
    """Returns True if the path is a link whose target is missing or cannot be reached."""
    return os.path.islink(path) and not os.path.exists(path)


def lone_video(path: Path) -> UserError:
    """Makes the error for a video among other files."""
    return UserError(f"{path}: is a video: give each video alone, in a separate command or call")


def picture_of(value: Any, reading: ReadOptions) -> Picture:
    """Makes a `Picture` of a path, a PIL picture, an array or a tensor.

    Raises:
        UserError: the value is none of these, or has a wrong shape or type.
    """
    if isinstance(value, str | os.PathLike):
        return read(Path(os.path.expanduser(value)), reading)
    if isinstance(value, Image.Image):
        return Picture(_of_pil(value, reading), getattr(value, "filename", "") or "")
    if isinstance(value, np.ndarray):
        return Picture(_of_array(value))
    if isinstance(value, Tensor):
        return Picture(_of_tensor(value))
    raise UserError(
        f"a picture is a path, a numpy array, a PIL picture or a tensor, not a "
        f"{type(value).__name__}"
    )


def _of_pil(picture: Image.Image, reading: ReadOptions) -> Tensor:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        raise UserError(
            f"a PIL picture of mode {picture.mode} has more than 8 bits: give its file, or 8-bit "
            "pixels"
        )
    try:
        if reading.exif == "apply":
            picture = ImageOps.exif_transpose(picture)
        pixels = np.array(picture.convert("RGB"))
    except PIL_ERRORS as error:  # Pillow decodes the file only when its pixels are used
        name = getattr(picture, "filename", "") or "a PIL picture"
        raise undecodable(Path(name), reason(error)) from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _of_array(pixels: np.ndarray) -> Tensor:
    """Converts (H, W, 3) BGR as in OpenCV, (H, W, 4) BGRA or (H, W) grey."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype == np.uint8 and 0 not in pixels.shape:
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
            rgb = np.ascontiguousarray(pixels[:, :, 2::-1])
            return torch.from_numpy(rgb).permute(2, 0, 1)
    raise UserError(
        f"an array {pixels.shape} of {pixels.dtype}: give (H, W, 3) uint8 BGR as OpenCV reads it, "
        "or (H, W) grey; for RGB give PIL.Image.fromarray(array)"
    )


def _of_tensor(image: Tensor) -> Tensor:
    """Converts (3, H, W) RGB or (1, H, W) grey, uint8 or floats in 0..1."""
    image = image.detach().cpu()
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.numel():
        if image.is_floating_point():
            low, high = image.aminmax()
            if low >= 0 and high <= 1:  # false for NaN
                image = (image.float() * 255).round().to(torch.uint8)
        if image.dtype == torch.uint8:
            return image.expand(3, -1, -1)
    raise UserError(
        f"a tensor {tuple(image.shape)} of {image.dtype}: give (3, H, W) RGB, uint8 in 0..255 or "
        "floating point in 0..1, not normalised"
    )
