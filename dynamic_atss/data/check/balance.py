"""Counts images, boxes and classes of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dynamic_atss.data.survey import Finding, SurveyInput, share
from dynamic_atss.data.survey.across_sets import used_classes

UNEVEN = 50  # ratio of the objects of two classes that gives a note


def numbers(data: SurveyInput) -> dict[str, Any]:
    """Counts images, boxes (only objects), regions, images without boxes, and objects by class."""
    objects = data.objects()
    counts = np.bincount(data.content.image_index[objects], minlength=len(data.names))
    wh = data.content.xywh[objects][:, 2:]
    return {
        "images": len(data.names),
        "boxes": int(objects.sum()),
        "regions": int(data.content.crowd.sum()),
        "images_without_boxes": int((counts == 0).sum()),
        "largest_number_of_boxes": int(counts.max(initial=0)),
        "median_side": float(np.median(np.sqrt(wh.prod(1)))) if len(wh) else None,
        "classes": dict(used_classes(data)),
    }


def uneven_classes(data: SurveyInput) -> Iterator[Finding]:
    counts = {name: count for name, count in used_classes(data).items() if count}
    if len(counts) < 2:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= UNEVEN * counts[least]:
        yield Finding(
            "note",
            "uneven_classes",
            data.where,
            len(counts),
            f"{counts[most]:,} objects of {most!r}, but {counts[least]:,} of {least!r}",
            "DATALOADER.REPEAT_FACTOR_THRESHOLD shows images of rare classes more often",
        )


def dropped_boxes(data: SurveyInput, statistics: dict[str, int]) -> Iterator[Finding]:
    """Finds boxes that a training drops.

    Args:
        data: the data set.
        statistics: the `statistics` of the same data set.
    """
    kinds = {
        "invalid": "without extent, or with NaN or infinity",
        "tiny": "of one pixel or less",
        "outside": "outside of their image",
    }
    for code, kind in kinds.items():
        if statistics[code]:
            text = f"{share(statistics[code], len(data.content.xywh), 'boxes')} {kind}"
            advice = "a training drops them; --fix removes them"
            yield Finding("warning", code, data.where, statistics[code], text, advice)


def ignored_boxes(data: SurveyInput) -> Iterator[Finding]:
    if data.content.flagged:
        yield Finding(
            "note",
            "ignored",
            data.where,
            data.content.flagged,
            f"{share(data.content.flagged, len(data.content.xywh), 'boxes')} with an 'ignore' flag",
            "they count as crowds; MODEL.ASSIGNER.IGNORE_REGIONS True leaves them out of training",
        )
