"""What the boxes of one data set tell, of what they look like and how many they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dynamic_atss.data.box_kinds import upright_boxes
from dynamic_atss.data.survey.areas import areas_of_another_unit, odd_areas
from dynamic_atss.data.survey.classes import (
    names_given_twice,
    names_nearly_the_same,
    names_that_are_none,
)
from dynamic_atss.data.survey.finding import Finding, several, share
from dynamic_atss.data.survey.surveyed import Surveyed

MOST = 0.5  # of boxes beyond the image: what is learnt is wrong, with or without a known cause
LARGE_SHARE = 0.05  # of boxes beyond the image; of those drawn by people a few per thousand are
_FITS = 0.95  # the share of boxes that another reading must bring into their images
_PIXEL = 1.0  # tools round, and some count the last pixel

# Four numbers of a box -> x1, y1, x2, y2. All are (A,), or of one box.
Reading = Callable[..., tuple]


def as_written(a: Any, b: Any, c: Any, d: Any) -> tuple:
    """COCO's (x, y, w, h)."""
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
CERTAIN = tuple(OTHERS)[:2]  # which nothing else explains


def boxes_beyond(one: Surveyed) -> Iterator[Finding]:
    """A large share of boxes reaches beyond their images; another reading may explain it, or that
    the pictures are read as stored, but were annotated upright."""
    count, found, advice = drawn_upright(one)
    if count:
        yield Finding("fix", "upright", one.where, count, found, advice)
        return
    chosen = np.flatnonzero(one.objects())
    beyond = chosen[~_inside(as_written, *_values(one, chosen))]
    if len(beyond) < max(LARGE_SHARE * len(chosen), 1):
        return
    cause = likely_reading(one)
    height, width = one.content.sizes[one.content.image[beyond[0]]]
    numbers = ", ".join(f"{v:g}" for v in one.content.xywh[beyond[0]])
    wrong = cause or len(beyond) >= MOST * len(chosen)
    yield Finding(
        *("fix" if wrong else "warning", "clipped", one.where, len(beyond)),
        f"{share(len(beyond), len(chosen), 'boxes')} ({len(beyond) / len(chosen):.0%}) reach "
        f"beyond their image and are cut, such as ({numbers}) of {one.image_of(beyond[0])} "
        f"({width} x {height})",
        f"they look like {cause}, but are read as (x, y, w, h): convert them"
        if cause
        else "check that they are (x, y, w, h) in pixels of these files",
    )


def drawn_upright(one: Surveyed) -> tuple[int, str, str]:
    """As `upright_boxes`, of the objects."""
    chosen, lying = one.objects(), one.lying()
    image = one.content.image[chosen]
    return upright_boxes(one.content.xywh[chosen], one.content.sizes[image], lying[image])


def likely_reading(one: Surveyed) -> str:
    """What the boxes look like where many reach beyond their images: a key of OTHERS.

    "" where the written reading fits, or no other one is convincing.
    """
    values, sizes = _values(one, np.flatnonzero(one.objects()))
    if not len(sizes) or _inside(as_written, values, sizes).mean() > 1 - LARGE_SHARE:
        return ""
    if drawn_upright(one)[0]:  # then it is the size that is written in another way
        return ""
    for name, reading in OTHERS.items():
        if _inside(reading, values, sizes).mean() >= _FITS:
            return name
    return ""


def _values(one: Surveyed, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, B) the numbers of some boxes · (B, 2) height and width of their images."""
    return one.content.xywh[chosen].T, one.content.sizes[one.content.image[chosen]]


def _inside(reading: Reading, values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(A,) bool: boxes with an extent that lie in their images."""
    x1, y1, x2, y2 = reading(*values)
    height, width = sizes.T
    starts = (x1 >= -_PIXEL) & (y1 >= -_PIXEL) & (x2 > x1) & (y2 > y1)
    return starts & (x2 <= width + _PIXEL) & (y2 <= height + _PIXEL)


def boxes_in_fractions(one: Surveyed) -> Iterator[Finding]:
    """All numbers are at most 1, as YOLO writes them."""
    values = one.content.xywh[one.objects()]
    if len(values) and values.max() <= 1.0:
        yield Finding(
            *("fix", "fractions", one.where, len(values)),
            f"no number of its {several(len(values), 'box', 'boxes')} is above 1",
            "they look like fractions of the image: multiply them by its width and height",
        )


def crowded_images(one: Surveyed, cap: int) -> Iterator[Finding]:
    """cap: TEST.DETECTIONS_PER_IMG"""
    counts = np.bincount(one.content.image[one.objects()], minlength=1)
    above = int((counts > cap).sum())
    if above:
        most = int(counts.max())
        name = repr(one.names[int(counts.argmax())])
        yield Finding(
            *("warning", "crowded", one.where, above),
            f"{share(above, len(one.names), 'images')} with more objects than the {cap} detections "
            f"that a test keeps, up to {most} ({name})",
            f"set TEST.DETECTIONS_PER_IMG {-(-most // 50) * 50}",
        )


def rotated_boxes(one: Surveyed) -> Iterator[Finding]:
    count, example = one.content.rotated
    if count:
        yield Finding(
            *("warning", "rotated", one.where, count),
            f"{share(count, len(one.content.xywh), 'boxes')} marked as rotated, such as {example}",
            "the rotation is not used: export upright boxes around the objects",
        )


CHECKS = (
    *(boxes_in_fractions, boxes_beyond, rotated_boxes),
    *(odd_areas, areas_of_another_unit),
    *(names_given_twice, names_nearly_the_same, names_that_are_none),
)


def box_findings(one: Surveyed) -> list[Finding]:
    """Of the boxes and the classes of one data set."""
    return [finding for check in CHECKS for finding in check(one)]
