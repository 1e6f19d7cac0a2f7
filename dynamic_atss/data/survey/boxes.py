"""Checks the form and the number of the boxes of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dynamic_atss.data.box_kinds import upright_boxes
from dynamic_atss.data.survey.areas import areas_of_another_unit, odd_areas
from dynamic_atss.data.survey.classes import (
    repeated_names,
    similar_names,
    unnamed_classes,
)
from dynamic_atss.data.survey.finding import Finding, several, share
from dynamic_atss.data.survey.survey_input import SurveyInput

MOST = 0.5  # share of boxes beyond the image that makes a finding certain, even without a cause
LARGE_SHARE = 0.05  # share of boxes beyond the image that gives a finding; people draw 0.1 to 1 %
_MIN_INSIDE = 0.95  # another reading explains the boxes if it puts this share inside the image
_PIXEL = 1.0  # tolerance, because tools round and some count the last pixel

# Maps the four numbers of a box to x1, y1, x2, y2, each (A,) or one number.
Reading = Callable[..., tuple]


def as_written(a: Any, b: Any, c: Any, d: Any) -> tuple:
    """Converts COCO's (x, y, w, h) to corners."""
    return a, b, a + c, b + d


def _centered(a: Any, b: Any, c: Any, d: Any) -> tuple:
    return a - c / 2, b - d / 2, a + c / 2, b + d / 2


OTHERS: dict[str, Reading] = {
    "corners (x1, y1, x2, y2)": lambda a, b, c, d: (a, b, c, d),
    "centre and size (cx, cy, w, h)": _centered,
    "y before x (y, x, h, w), or those of the picture turned by 90 degrees": lambda a, b, c, d: (
        as_written(b, a, d, c)
    ),
    "corners with y before x (y1, x1, y2, x2)": lambda a, b, c, d: (b, a, d, c),
}
CERTAIN = tuple(OTHERS)[:2]  # nothing else explains boxes of these forms


def boxes_beyond(data: SurveyInput) -> Iterator[Finding]:
    """Finds boxes that reach beyond their images.

    Names the cause if another reading explains them, or if they were drawn on upright pictures that
    are read as stored.
    """
    count, found, advice = drawn_upright(data)
    if count:
        yield Finding("fix", "upright", data.where, count, found, advice)
        return
    chosen = np.flatnonzero(data.objects())
    beyond = chosen[~_inside(as_written, *_values(data, chosen))]
    if len(beyond) < max(LARGE_SHARE * len(chosen), 1):
        return
    cause = likely_reading(data)
    height, width = data.content.sizes[data.content.image_index[beyond[0]]]
    numbers = ", ".join(f"{v:g}" for v in data.content.xywh[beyond[0]])
    wrong = cause or len(beyond) >= MOST * len(chosen)
    yield Finding(
        "fix" if wrong else "warning",
        "clipped",
        data.where,
        len(beyond),
        f"{share(len(beyond), len(chosen), 'boxes')} ({len(beyond) / len(chosen):.0%}) reach "
        f"beyond their image and are clipped, such as ({numbers}) of {data.image_of(beyond[0])} "
        f"({width} x {height})",
        f"they look like {cause}, but are read as (x, y, w, h): convert them"
        if cause
        else "check that they are (x, y, w, h) in pixels of these files",
    )


def drawn_upright(data: SurveyInput) -> tuple[int, str, str]:
    """Returns the result of `upright_boxes` for the objects."""
    chosen, sideways = data.objects(), data.sideways()
    image_index = data.content.image_index[chosen]
    sizes = data.content.sizes[image_index]
    return upright_boxes(data.content.xywh[chosen], sizes, sideways[image_index])


def likely_reading(data: SurveyInput) -> str:
    """Finds the form of boxes that reach beyond their images. The form is a key of OTHERS.

    Returns "" if the boxes are in COCO's form, or if no other form explains them.
    """
    values, sizes = _values(data, np.flatnonzero(data.objects()))
    if not len(sizes) or _inside(as_written, values, sizes).mean() > 1 - LARGE_SHARE:
        return ""
    if drawn_upright(data)[0]:  # the sizes are wrong, not the boxes
        return ""
    for name, reading in OTHERS.items():
        if _inside(reading, values, sizes).mean() >= _MIN_INSIDE:
            return name
    return ""


def _values(data: SurveyInput, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers (4, B) of B chosen boxes, and (B, 2) height, width of their images."""
    return data.content.xywh[chosen].T, data.content.sizes[data.content.image_index[chosen]]


def _inside(reading: Reading, values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Returns (B,) bool, True for boxes with an extent that are inside their images."""
    x1, y1, x2, y2 = reading(*values)
    height, width = sizes.T
    starts = (x1 >= -_PIXEL) & (y1 >= -_PIXEL) & (x2 > x1) & (y2 > y1)
    return starts & (x2 <= width + _PIXEL) & (y2 <= height + _PIXEL)


def boxes_in_fractions(data: SurveyInput) -> Iterator[Finding]:
    """Finds data sets in which all numbers of boxes are at most 1, as YOLO writes them."""
    values = data.content.xywh[data.objects()]
    if len(values) and values.max() <= 1.0:
        yield Finding(
            "fix",
            "fractions",
            data.where,
            len(values),
            f"no number of its {several(len(values), 'box', 'boxes')} is above 1",
            "they look like fractions of the image: multiply them by its width and height",
        )


def crowded_images(data: SurveyInput, cap: int) -> Iterator[Finding]:
    """Finds images with more objects than the `cap` detections that a test keeps.

    Args:
        data: the data set.
        cap: TEST.DETECTIONS_PER_IMG.
    """
    counts = np.bincount(data.content.image_index[data.objects()], minlength=1)
    above = int((counts > cap).sum())
    if above:
        most = int(counts.max())
        name = repr(data.names[int(counts.argmax())])
        yield Finding(
            "warning",
            "crowded",
            data.where,
            above,
            f"{share(above, len(data.names), 'images')} with more objects than the {cap} "
            f"detections that a test keeps, up to {most} ({name})",
            f"set TEST.DETECTIONS_PER_IMG {-(-most // 50) * 50}",
        )


def rotated_boxes(data: SurveyInput) -> Iterator[Finding]:
    count, example = data.content.rotated
    if count:
        yield Finding(
            "warning",
            "rotated",
            data.where,
            count,
            f"{share(count, len(data.content.xywh), 'boxes')} marked as rotated, such as {example}",
            "the rotation is ignored: export upright boxes around the objects",
        )


CHECKS = (
    boxes_in_fractions,
    boxes_beyond,
    rotated_boxes,
    odd_areas,
    areas_of_another_unit,
    repeated_names,
    similar_names,
    unnamed_classes,
)


def box_findings(data: SurveyInput) -> list[Finding]:
    """Checks the boxes and the classes of a data set."""
    return [finding for check in CHECKS for finding in check(data)]
