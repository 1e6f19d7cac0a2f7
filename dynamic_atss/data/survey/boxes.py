"""What the boxes of one data set tell, of what they look like and how many they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dynamic_atss.data.survey.finding import Finding, several
from dynamic_atss.data.survey.surveyed import Surveyed

LARGE_SHARE = 0.05  # of boxes beyond the image; of those drawn by people a few per thousand are
_FITS = 0.95  # the share of boxes that another reading must bring into their images
_PIXEL = 1.0  # tools round, and some count the last pixel

# Four numbers of a box -> x1, y1, x2, y2. All are (A,).
Reading = Callable[..., tuple[np.ndarray, ...]]


def as_written(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple:
    return a, b, a + c, b + d


def _centered(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple:
    return a - c / 2, b - d / 2, a + c / 2, b + d / 2


OTHERS: dict[str, Reading] = {
    "corners (x1, y1, x2, y2)": lambda a, b, c, d: (a, b, c, d),
    "centre and size (cx, cy, w, h)": _centered,
    "y before x (y, x, h, w)": lambda a, b, c, d: as_written(b, a, d, c),
    "corners with y before x (y1, x1, y2, x2)": lambda a, b, c, d: (b, a, d, c),
}
TURNED = "boxes of the picture turned by 90 degrees"


def boxes_beyond(one: Surveyed) -> Iterator[Finding]:
    """A large share of boxes reaches beyond their images; another reading may explain it."""
    chosen = one.objects()
    values, sizes = one.content.xywh[chosen].T, one.content.sizes[one.content.image[chosen]]
    beyond = ~_inside(as_written, values, sizes)
    if not len(beyond) or beyond.mean() < LARGE_SHARE:
        return
    first = int(np.flatnonzero(chosen)[np.argmax(beyond)])
    cause = _cause(values, sizes)
    height, width = one.content.sizes[one.content.image[first]]
    numbers = ", ".join(f"{v:g}" for v in one.content.xywh[first])
    yield Finding(
        *("fix" if cause else "warning", "clipped", one.where, int(beyond.sum())),
        f"{several(int(beyond.sum()), 'box', 'boxes')} of {len(beyond):,} ({beyond.mean():.0%}) "
        f"reach beyond their image and are cut, such as ({numbers}) of {one.image_of(first)} "
        f"({width} x {height})",
        f"they look like {cause}, but are read as (x, y, w, h): convert them"
        if cause
        else "check that they are (x, y, w, h) in pixels of these files",
    )


def _cause(values: np.ndarray, sizes: np.ndarray) -> str:
    """The reading by which the boxes lie in their images; "" where none of them is convincing."""
    for name, reading in OTHERS.items():
        if _inside(reading, values, sizes).mean() >= _FITS:
            return name
    return TURNED if _inside(as_written, values, sizes[:, ::-1]).mean() >= _FITS else ""


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
            f"{several(above, 'image')} of {len(one.names):,} have more objects than the {cap} "
            f"detections that a test keeps, up to {most} ({name})",
            f"set TEST.DETECTIONS_PER_IMG {-(-most // 50) * 50}",
        )


def rotated_boxes(one: Surveyed) -> Iterator[Finding]:
    count, example = one.content.rotated
    if count:
        yield Finding(
            *("warning", "rotated", one.where, count),
            f"{several(count, 'box', 'boxes')} of {len(one.content.xywh):,} are rotated, such as "
            f"{example}",
            "the rotation is not used: export upright boxes around the objects",
        )


def odd_areas(one: Surveyed) -> Iterator[Finding]:
    objects = one.objects()
    odd = objects & ~(one.content.areas > 0)
    if odd.any():
        first = int(np.argmax(odd))
        yield Finding(
            *("fix", "area", one.where, int(odd.sum())),
            f"{several(int(odd.sum()), 'box', 'boxes')} of {int(objects.sum()):,} have an area "
            f"that is not positive, such as {one.content.areas[first]:g} in {one.image_of(first)}",
            "write width x height, or leave the area out",
        )


CHECKS = (boxes_in_fractions, boxes_beyond, rotated_boxes, odd_areas)


def box_findings(one: Surveyed) -> list[Finding]:
    """Of the boxes of one data set."""
    return [finding for check in CHECKS for finding in check(one)]
