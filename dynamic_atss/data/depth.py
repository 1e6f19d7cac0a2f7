"""16-bit files of which fewer bits are used, as by cameras and scanners of 10, 12 and 14 bits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dynamic_atss.data.headers.record import ImageHeader

LOOKED_AT = 8  # images, spread over the data set
MOST_BITS = 14  # of values that are far below the largest, 65535
_log = logging.getLogger(__name__)


def check_bits(
    paths: Sequence[Path], headers: Sequence[ImageHeader], bits: int, source: str
) -> None:
    """Warns where INPUT.BITS does not fit the largest value of some of the 16-bit images: they
    would be nearly black, or partly white.

    bits: the key; 0: all 16 · source: how the message calls the data set
    """
    deep = [path for path, header in zip(paths, headers, strict=True) if header.bits == 16]
    seen = deep[:: -(-len(deep) // LOOKED_AT) or 1]
    found = [(largest_value(path), path) for path in seen]
    if not found:
        return
    largest, example = max(found)
    used = max(8, largest.bit_length())
    if largest and (used > bits if bits else used <= MOST_BITS):
        _log.warning(
            "%s: %d images have 16 bits. The largest value in %d of them is %d (%r). With "
            "INPUT.BITS %d they are %s: set INPUT.BITS %d",
            *(source, len(deep), len(seen), largest, str(example)),
            *(bits, "partly white" if bits else "nearly black", used + used % 2),
        )


def largest_value(path: Path) -> int:
    """Of a 16-bit image; 0 where OpenCV does not read it."""
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return 0
    if pixels is None or pixels.dtype != np.uint16:
        return 0
    colours = pixels if pixels.ndim == 2 or pixels.shape[2] == 3 else pixels[:, :, :3]
    return int(colours.max())
