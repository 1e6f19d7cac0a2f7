"""Places captions of boxes so that they hide little and stay inside the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two exclusive

_LEGEND_LINES = 10


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Loads DejaVu Sans from matplotlib.

    Every machine has it. Unlike OpenCV's fonts it has accents, Greek and Cyrillic.
    """
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)


class Canvas:
    """Holds an image (H, W, 3) uint8 to write on. `size` is the height of the font in pixels."""

    def __init__(self, pixels: NDArray[np.uint8], size: int) -> None:
        self._image = Image.fromarray(pixels)
        self._draw = ImageDraw.Draw(self._image)
        self._font = _font(size)
        self.padding = max(2, size // 5)
        self.line = sum(self._font.getmetrics())

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return np.array(self._image)

    @property
    def extent(self) -> tuple[int, int]:
        """Returns width and height in pixels."""
        return self._image.size

    def width_of(self, text: str) -> int:
        """Returns the width of the text in pixels, without padding."""
        return round(self._font.getlength(text))

    def text(self, text: str, left: int, top: int, color: Color) -> None:
        self._draw.text((left, top), text, fill=color, font=self._font)

    def fill(self, where: Rectangle, color: Color) -> None:
        left, top, right, bottom = where
        self._draw.rectangle((left, top, right - 1, bottom - 1), fill=color)


@dataclass(frozen=True)
class Caption:
    """Describes a text on a coloured background."""

    text: str
    where: Rectangle
    color: Color


def caption_boxes(
    canvas: Canvas, boxes: Sequence[tuple[str, NDArray[np.float64], Color]]
) -> list[Caption]:
    """Places the caption of each (text, box, colour) inside the image.

    Tries eight places: above the box, inside it at the top, below it, and inside it at the bottom,
    each at the left and at the right corner. Takes the first place that covers the least area of
    earlier captions and small boxes. Covered captions count four times as much as boxes.
    """
    placed: list[Caption] = []
    small = _small_boxes([box for _, box, _ in boxes], limit=(6 * canvas.line) ** 2 // 2)
    for text, box, color in boxes:
        size = (canvas.width_of(text) + 2 * canvas.padding, canvas.line + 2)
        places = [_kept_inside(p, canvas.extent) for p in _places(box, size)]
        taken = [caption.where for caption in placed]
        covered = [_covered(place, small) + 4 * _covered(place, taken) for place in places]
        placed.append(Caption(text, places[int(np.argmin(covered))], color))
    return placed


def crowded(canvas: Canvas, texts: Sequence[str]) -> bool:
    """Returns True if captions of these texts would cover more than a third of the image."""
    taken = sum((canvas.width_of(text) + 2 * canvas.padding) * (canvas.line + 2) for text in texts)
    width, height = canvas.extent
    return 3 * taken > width * height


def put_legend(canvas: Canvas, boxes: Sequence[tuple[str, Color]]) -> None:
    """Writes in the upper left corner how many boxes each label has, the most frequent first.

    A line has the colour of its label, or white if boxes of the label differ in colour.
    """
    colors: dict[str, set[Color]] = {}
    for label, color in boxes:
        colors.setdefault(label, set()).add(color)
    counts = Counter(label for label, _ in boxes).most_common()
    lines = [(f"{label} \u00d7 {n}", colors[label]) for label, n in counts[:_LEGEND_LINES]]
    if len(counts) > _LEGEND_LINES:
        others = sum(n for _, n in counts[_LEGEND_LINES:])
        lines.append((f"{len(counts) - _LEGEND_LINES} other labels \u00d7 {others}", set()))
    width = max(canvas.width_of(text) for text, _ in lines) + 2 * canvas.padding
    height = canvas.line + 2
    put_captions(
        canvas,
        [
            Caption(text, (0, i * height, width, (i + 1) * height), _only(found))
            for i, (text, found) in enumerate(lines)
        ],
    )


def _only(colors: set[Color]) -> Color:
    return next(iter(colors)) if len(colors) == 1 else (255, 255, 255)


def put_captions(canvas: Canvas, captions: Iterable[Caption]) -> None:
    """Writes captions, black on bright backgrounds and white on dark ones."""
    for caption in captions:
        left, top, _, _ = caption.where
        canvas.fill(caption.where, caption.color)
        bright = np.dot(caption.color, (0.299, 0.587, 0.114)) > 140  # the luma of Rec. 601
        ink = (0, 0, 0) if bright else (255, 255, 255)
        canvas.text(caption.text, left + canvas.padding, top + 1, ink)


def _places(box: NDArray[np.float64], size: tuple[int, int]) -> list[Rectangle]:
    left, top, right, bottom = (round(v) for v in box.tolist())
    width, height = size
    corners = (
        (left - 1, top - height),
        (right + 2 - width, top - height),
        (left, top),
        (right - width, top),
        (left - 1, bottom + 1),
        (right + 2 - width, bottom + 1),
        (left, bottom - height),
        (right - width, bottom - height),
    )
    return [(x, y, x + width, y + height) for x, y in corners]


def _kept_inside(place: Rectangle, extent: tuple[int, int]) -> Rectangle:
    """Moves the rectangle into the image. A wider rectangle starts at the image's left border."""
    left, top, right, bottom = place
    x = max(0, min(left, extent[0] - (right - left)))
    y = max(0, min(top, extent[1] - (bottom - top)))
    return x, y, x + right - left, y + bottom - top


def _small_boxes(boxes: Sequence[NDArray[np.float64]], limit: int) -> list[Rectangle]:
    """Returns the boxes of less than `limit` square pixels. A caption would hide much of them."""
    rectangles = [tuple(round(v) for v in box.tolist()) for box in boxes]
    return [r for r in rectangles if (r[2] - r[0]) * (r[3] - r[1]) < limit]


def _covered(place: Rectangle, others: Iterable[Rectangle]) -> int:
    return sum(_common_area(place, other) for other in others)


def _common_area(a: Rectangle, b: Rectangle) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0, width) * max(0, height)
