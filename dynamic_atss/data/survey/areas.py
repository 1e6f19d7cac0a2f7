"""What the areas of one data set's objects tell. Scores call objects small or large by them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dynamic_atss.data.survey.finding import Finding, share
from dynamic_atss.data.survey.surveyed import Surveyed

_ROUNDED = 1.05  # times its box, made a pixel larger, an area may be: tools round boxes
_THIN = 0.1  # of its box: in most data sets more than half of the outlines fill more


def odd_areas(one: Surveyed) -> Iterator[Finding]:
    count, example = one.content.odd_areas
    if count:
        yield Finding(
            *("fix", "area", one.where, count),
            f"{share(count, len(one.content.areas), 'boxes')} with an area that is not a positive "
            f"number, such as {example}; width x height is taken",
            "write width x height, or leave the area out",
        )


def areas_of_another_unit(one: Surveyed) -> Iterator[Finding]:
    """No outline is larger than its box. Smaller it may be, where an object is thin, but most of a
    data set's objects are not."""
    chosen = np.flatnonzero(one.objects())
    if not len(chosen):
        return
    areas, wh = one.content.areas[chosen], one.content.xywh[chosen, 2:]
    larger = areas > _ROUNDED * (wh + 1).prod(1)
    filled = areas / wh.prod(1)
    smaller = (filled < _THIN) & (np.median(filled) < _THIN)
    for strange, what in ((larger, "larger than"), (smaller, f"below {_THIN:.0%} of")):
        if strange.any():
            first = int(np.argmax(strange))
            yield Finding(
                *("warning", "area_unit", one.where, int(strange.sum())),
                f"{share(int(strange.sum()), len(areas), 'areas')} are {what} their box, such as "
                f"{areas[first]:g} of one of {wh[first, 0]:g} x {wh[first, 1]:g} in "
                f"{one.image_of(chosen[first])}: they seem to be of another unit or image size. "
                "Scores call objects small, medium or large by them as they are",
                "write square pixels, or leave the areas out to have width x height taken",
            )
