"""Boxes that are written in another way than their format has it: told, never changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SUSPECT = 0.2  # share of the boxes that has to be strange before anything is said
SUSPECT_IF_EXPLAINED = 0.05  # the share, if another reading keeps them inside
FITS = 0.99  # share that another reading has to keep inside to be named as the cause
REACH = 0.01  # of a side, and a pixel: annotators and rounding go that far beyond the border

_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
_Readings = dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], _Columns]]


@dataclass(frozen=True)
class BoxForm:
    """How a format writes boxes.

    text, in words · readings, other ways to read the four numbers, in pixels: what they are called,
    and their corners x1, y1, x2, y2 · fractions: centre, width, height as parts of the image's
    sides; False: x, y, width, height in pixels
    """

    text: str
    readings: _Readings
    fractions: bool = False

    def written(self, xywh: np.ndarray) -> np.ndarray:
        """(A, 4) the numbers in the file, in pixels, of boxes x, y, w, h."""
        moved = xywh[:, :2] + xywh[:, 2:] / 2 if self.fractions else xywh[:, :2]
        return np.concatenate([moved, xywh[:, 2:]], axis=1)

    def example(self, xywh: np.ndarray, sizes: np.ndarray) -> str:
        """The first of some boxes as the file has it."""
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
    """What is suspicious about a data set's boxes as a whole, with the likely cause; "" if nothing.

    xywh (A, 4) as annotated · sizes (A, 2) height, width of each box's image · areas (A,) as
    annotated · form: how the format writes boxes
    """
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(xywh).all(1) & (xywh[:, 2:] > 0).all(1) & (sizes > 0).all(1)
    xywh, sizes, areas = xywh[usable], sizes[usable], areas[usable]
    if not len(xywh):
        return ""
    return ("" if form.fractions else _normalised(xywh)) or _beyond(xywh, sizes, areas, form)


def upright_boxes(xywh: np.ndarray, sizes: np.ndarray, lying: np.ndarray) -> tuple[int, str, str]:
    """What tells that boxes were drawn on upright pictures whose annotated sizes are those of the
    stored pixels: how many boxes, what was found, what to do. (0, "", "") where nothing does.

    xywh (A, 4) as annotated · sizes (A, 2) height, width of each box's image as stored · lying (A,)
    bool: the image is read as stored, and its EXIF orientation would exchange its sides
    """
    xywh, sizes = xywh[lying], sizes[lying]
    leaves = ~_inside(_corners(xywh), sizes)
    upright = _inside(_corners(xywh), sizes[:, ::-1])
    if not len(xywh) or leaves.mean() < SUSPECT_IF_EXPLAINED or upright.mean() < FITS:
        return 0, "", ""
    count = int(leaves.sum())
    return (
        count,
        f"{count} of {len(xywh)} boxes of pictures with an EXIF orientation reach beyond "
        f"the stored picture, such as {_text(xywh[leaves][0])}, and lie inside the upright one: "
        "they seem to be drawn there, while width and height are those of the stored pixels",
        "exchange width and height of these pictures, or leave them out: they are then turned",
    )


def _normalised(xywh: np.ndarray) -> str:
    """Boxes within the first pixel are fractions of the image, read by COCO's or VOC's rules."""
    small, ends = xywh[:, 2:] <= 1, xywh[:, :2] + xywh[:, 2:] <= 1
    inside = (np.abs(xywh[:, :2]) <= 1).all(1) & (small.all(1) | ends.all(1))
    if inside.mean() < SUSPECT:
        return ""
    return (
        f"{inside.sum()} of {len(xywh)} boxes lie within one pixel, such as "
        f"{_text(xywh[inside][0])}: they look like fractions of the image's sides. Multiply "
        "them by the sides, as boxes are x, y, width, height in pixels (files of YOLO's: use "
        "yolo:<data.yaml>:<split>)"
    )


def _beyond(xywh: np.ndarray, sizes: np.ndarray, areas: np.ndarray, form: BoxForm) -> str:
    """Boxes that leave their image, or whose areas are those of corners."""
    leaves = ~_inside(_corners(xywh), sizes)
    corner_areas = (xywh[:, 2:] - xywh[:, :2]).prod(1)
    agree = np.isclose(areas, corner_areas, rtol=0.02) & ~np.isclose(areas, xywh[:, 2:].prod(1))
    strange = leaves if leaves.any() else agree
    fitting = _fitting_reading(form.written(xywh), sizes, form.readings)
    known = "" if fitting is None else fitting[0]
    areas_say_so = form is PIXELS and known.startswith("corners (x1") and agree.mean() >= FITS
    if leaves.mean() < (SUSPECT_IF_EXPLAINED if known else SUSPECT) and not areas_say_so:
        return ""
    found = (
        f"{leaves.sum()} of {len(xywh)} boxes reach beyond their image"
        f"{f' and {agree.sum()} have the area of corners' if areas_say_so else ''}, such as "
        f"{form.example(xywh[strange], sizes[strange])}: "
    )
    if fitting is None:
        return (
            f"{found}they look as if made for pictures of another size or another way up. Boxes "
            f"are {form.text}"
        )
    return (
        f"{found}they look like {known}, by which {fitting[1]} lie inside. Convert them, as "
        f"boxes are {form.text}"
    )


def _fitting_reading(
    written: np.ndarray, sizes: np.ndarray, readings: _Readings
) -> tuple[str, int] | None:
    """The other reading that keeps the boxes inside, and how many of them."""
    for name, corners in readings.items():
        inside = _inside(corners(*written.T), sizes)
        if inside.mean() >= FITS:
            return name, int(inside.sum())
    return None


def _corners(xywh: np.ndarray) -> _Columns:
    x, y, w, h = xywh.T
    return x, y, x + w, y + h


def _inside(corners: _Columns, sizes: np.ndarray) -> np.ndarray:
    """(A,) bool: boxes of positive extent within their image, or nearly."""
    x1, y1, x2, y2 = corners
    height, width = sizes.T
    reach_x, reach_y = 1 + REACH * width, 1 + REACH * height
    across = (x1 >= -reach_x) & (x2 <= width + reach_x) & (x2 > x1)
    return across & (y1 >= -reach_y) & (y2 <= height + reach_y) & (y2 > y1)


def _text(box: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in box) + "]"
