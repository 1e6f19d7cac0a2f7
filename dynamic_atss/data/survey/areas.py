"""Checks the areas of a data set's objects.

Scores count objects as small, medium or large by their areas.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dynamic_atss.data.survey.finding import Finding, share
from dynamic_atss.data.survey.survey_input import SurveyInput

_ROUNDED = 1.05  # largest ratio of an area to its box plus a pixel; tools round boxes
_THIN = 0.1  # ratio of an area to its box that most objects of a data set exceed


def odd_areas(data: SurveyInput) -> Iterator[Finding]:
    count, example = data.content.odd_areas
    if count:
        yield Finding(
            "fix",
            "area",
            data.where,
            count,
            f"{share(count, len(data.content.areas), 'boxes')} with an area that is not a positive "
            f"number, such as {example}; width x height is taken",
            "write width x height, or leave the area out",
        )


def areas_of_another_unit(data: SurveyInput) -> Iterator[Finding]:
    """Finds areas that are larger than their boxes. Finds small areas if most objects have them.

    An outline cannot exceed its box. It is much smaller only for thin objects.
    """
    chosen = np.flatnonzero(data.objects())
    if not len(chosen):
        return
    areas, wh = data.content.areas[chosen], data.content.xywh[chosen, 2:]
    larger = areas > _ROUNDED * (wh + 1).prod(1)
    filled = areas / wh.prod(1)
    smaller = (filled < _THIN) & (np.median(filled) < _THIN)
    for wrong, relation in ((larger, "larger than"), (smaller, f"below {_THIN:.0%} of")):
        if wrong.any():
            first = int(np.argmax(wrong))
            yield Finding(
                "warning",
                "area_unit",
                data.where,
                int(wrong.sum()),
                f"{share(int(wrong.sum()), len(areas), 'areas')} are {relation} their box, such as "
                f"{areas[first]:g} for {wh[first, 0]:g} x {wh[first, 1]:g} in "
                f"{data.image_of(chosen[first])}: they seem to have another unit or image size. "
                "They decide whether scores count an object as small, medium or large",
                "write square pixels, or leave the areas out to use width x height",
            )
