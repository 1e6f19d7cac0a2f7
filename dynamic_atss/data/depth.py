"""Warns of 16-bit files that use fewer bits, such as those of cameras with 10, 12 or 14 bits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dynamic_atss.data.headers.record import ImageHeader

MAX_IMAGES = 8  # images that are opened, spread over the data set
MOST_BITS = 14  # files that use no more bits than this would look nearly black
_log = logging.getLogger(__name__)


def check_bits(
    paths: Sequence[Path], headers: Sequence[ImageHeader], bits: int, source: str
) -> None:
    """Warns if the largest value of 16-bit images does not fit INPUT.BITS.

    Such images would be nearly black, or partly white.

    Args:
        paths, headers: the images and their headers.
        bits: INPUT.BITS. 0 means all 16.
        source: the name of the data set in the message.
    """
    deep = [path for path, header in zip(paths, headers, strict=True) if header.bits == 16]
    sample = deep[:: -(-len(deep) // MAX_IMAGES) or 1]
    found = [(largest_value(path), path) for path in sample]
    if not found:
        return
    largest, example = max(found)
    used = max(8, largest.bit_length())
    if largest and (used > bits if bits else used <= MOST_BITS):
        _log.warning(
            "%s: %d images have 16 bits. The largest value in %d of them is %d (%r). With "
            "INPUT.BITS %d they are %s: set INPUT.BITS %d",
            source,
            len(deep),
            len(sample),
            largest,
            str(example),
            bits,
            "partly white" if bits else "nearly black",
            used + used % 2,
        )


def largest_value(path: Path) -> int:
    """Returns the largest value of a 16-bit image. Returns 0 if OpenCV cannot read it."""
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return 0
    if pixels is None or pixels.dtype != np.uint16:
        return 0
    colours = pixels if pixels.ndim == 2 or pixels.shape[2] == 3 else pixels[:, :, :3]
    return int(colours.max())
