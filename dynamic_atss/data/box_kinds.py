"""Warns of boxes that seem to be written in another form than their format requires."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SUSPECT = 0.2  # share of suspicious boxes that gives a warning
SUSPECT_IF_EXPLAINED = 0.05  # the share if another form keeps the boxes inside
MIN_INSIDE = 0.99  # another form explains the boxes if it puts this share inside the image
REACH = 0.01  # share of a side by which correct boxes may exceed the border, plus a pixel

_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_Readings = dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], _Columns]]


@dataclass(frozen=True)
class BoxForm:
    """Describes how a format writes boxes.

    Attributes:
        text: the form in words.
        readings: name of another form -> function from the four numbers in that form to the corners
            x1, y1, x2, y2 in pixels.
        fractions: True for centre, width, height as fractions of the image's sides. False for x, y,
            width, height in pixels.
    """

    text: str
    readings: _Readings
    fractions: bool = False

    def written(self, xywh: np.ndarray) -> np.ndarray:
        """Converts boxes x, y, w, h (A, 4) in pixels to the form of the file, still in pixels."""
        origin = xywh[:, :2] + xywh[:, 2:] / 2 if self.fractions else xywh[:, :2]
        return np.concatenate([origin, xywh[:, 2:]], axis=1)

    def example(self, xywh: np.ndarray, sizes: np.ndarray) -> str:
        """Formats the first box as it is written in the file."""
        sides = np.tile(sizes[0, ::-1], 2) if self.fractions else 1
        return _text(self.written(xywh[:1])[0] / sides)


PIXELS = BoxForm(
    "x, y, width, height in pixels",
    {
        "corners (x1, y1, x2, y2)": lambda a, b, c, d: (a, b, c, d),
        "centre, width, height": lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
        "y, x, height, width": lambda a, b, c, d: (b, a, b + d, a + c),
        "corners (y1, x1, y2, x2)": lambda a, b, c, d: (b, a, d, c),
    },
)
FRACTIONS = BoxForm(
    "centre x, centre y, width, height as fractions of the image's sides",
    {
        "corners (x1, y1, x2, y2)": lambda a, b, c, d: (a, b, c, d),
        "upper left corner, width, height": lambda a, b, c, d: (a, b, a + c, b + d),
    },
    fractions=True,
)


def box_warning(
    xywh: np.ndarray, sizes: np.ndarray, areas: np.ndarray, form: BoxForm = PIXELS
) -> str:
    """Says why the boxes of a data set look wrong, with the likely cause.

    Returns "" if they look right.

    Args:
        xywh: (A, 4) as annotated.
        sizes: (A, 2) height, width of each box's image.
        areas: (A,) as annotated.
        form: how the format writes boxes.
    """
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(xywh).all(1) & (xywh[:, 2:] > 0).all(1) & (sizes > 0).all(1)
    xywh, sizes, areas = xywh[usable], sizes[usable], areas[usable]
    if not len(xywh):
        return ""
    return ("" if form.fractions else _normalised(xywh)) or _beyond(xywh, sizes, areas, form)


def upright_boxes(
    xywh: np.ndarray, sizes: np.ndarray, sideways: np.ndarray
) -> tuple[int, str, str]:
    """Detects boxes drawn on the upright picture although the annotated size is the stored one.

    Returns the number of boxes, a description and advice. Returns (0, "", "") if there are none.

    Args:
        xywh: (A, 4) as annotated.
        sizes: (A, 2) height, width of each box's image as stored.
        sideways: (A,) bool, True if the image is read as stored and its EXIF orientation would
            exchange its sides.
    """
    xywh, sizes = xywh[sideways], sizes[sideways]
    beyond = ~_inside(_corners(xywh), sizes)
    upright = _inside(_corners(xywh), sizes[:, ::-1])
    if not len(xywh) or beyond.mean() < SUSPECT_IF_EXPLAINED or upright.mean() < MIN_INSIDE:
        return 0, "", ""
    count = int(beyond.sum())
    return (
        count,
        f"{count} of {len(xywh)} boxes of pictures with an EXIF orientation reach beyond "
        f"the stored picture, such as {_text(xywh[beyond][0])}, but lie inside the upright one: "
        "they seem to be drawn on it, while width and height are those of the stored picture",
        "exchange width and height of these pictures, or leave both out to turn them upright",
    )


def _normalised(xywh: np.ndarray) -> str:
    """Detects boxes within the first pixel. These are fractions that were read as pixels."""
    small, ends = xywh[:, 2:] <= 1, xywh[:, :2] + xywh[:, 2:] <= 1
    inside = (np.abs(xywh[:, :2]) <= 1).all(1) & (small.all(1) | ends.all(1))
    if inside.mean() < SUSPECT:
        return ""
    return (
        f"{inside.sum()} of {len(xywh)} boxes lie within one pixel, such as "
        f"{_text(xywh[inside][0])}: they look like fractions of the image's sides. Multiply "
        "them by the sides to get x, y, width, height in pixels (for files of YOLO use "
        "yolo:<data.yaml>:<split>)"
    )


def _beyond(xywh: np.ndarray, sizes: np.ndarray, areas: np.ndarray, form: BoxForm) -> str:
    """Detects boxes that reach beyond their image, or whose areas fit corners x1, y1, x2, y2."""
    beyond = ~_inside(_corners(xywh), sizes)
    corner_areas = (xywh[:, 2:] - xywh[:, :2]).prod(1)
    agree = np.isclose(areas, corner_areas, rtol=0.02) & ~np.isclose(areas, xywh[:, 2:].prod(1))
    suspicious = beyond if beyond.any() else agree
    other = _other_reading(form.written(xywh), sizes, form.readings)
    name = "" if other is None else other[0]
    areas_agree = form is PIXELS and name.startswith("corners (x1") and agree.mean() >= MIN_INSIDE
    if beyond.mean() < (SUSPECT_IF_EXPLAINED if name else SUSPECT) and not areas_agree:
        return ""
    found = (
        f"{beyond.sum()} of {len(xywh)} boxes reach beyond their image"
        f"{f' and {agree.sum()} have the area of corners' if areas_agree else ''}, such as "
        f"{form.example(xywh[suspicious], sizes[suspicious])}: "
    )
    if other is None:
        return (
            f"{found}they seem to belong to pictures of another size or orientation. Boxes are "
            f"{form.text}"
        )
    return (
        f"{found}they look like {name}, by which {other[1]} lie inside. Convert them to {form.text}"
    )


def _other_reading(
    written: np.ndarray, sizes: np.ndarray, readings: _Readings
) -> tuple[str, int] | None:
    """Finds another form that keeps the boxes inside. Returns its name and the number inside."""
    for name, corners in readings.items():
        inside = _inside(corners(*written.T), sizes)
        if inside.mean() >= MIN_INSIDE:
            return name, int(inside.sum())
    return None


def _corners(xywh: np.ndarray) -> _Columns:
    x, y, w, h = xywh.T
    return x, y, x + w, y + h


def _inside(corners: _Columns, sizes: np.ndarray) -> np.ndarray:
    """Returns (A,) bool, True for boxes of positive extent inside their image, within REACH."""
    x1, y1, x2, y2 = corners
    height, width = sizes.T
    reach_x, reach_y = 1 + REACH * width, 1 + REACH * height
    across = (x1 >= -reach_x) & (x2 <= width + reach_x) & (x2 > x1)
    return across & (y1 >= -reach_y) & (y2 <= height + reach_y) & (y2 > y1)


def _text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in box) + "]"
