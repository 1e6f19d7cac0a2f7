"""Numbers of a data set: for the page and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dynamic_atss.data.survey import Finding, Surveyed, share
from dynamic_atss.data.survey.together import used_classes

UNEVEN = 50  # times as many objects of one class as of another are worth a line


def numbers(one: Surveyed) -> dict[str, Any]:
    """images, boxes (objects), regions, empty images, classes by name, medians."""
    objects = one.objects()
    counts = np.bincount(one.content.image[objects], minlength=len(one.names))
    wh = one.content.xywh[objects][:, 2:]
    return {
        "images": len(one.names),
        "boxes": int(objects.sum()),
        "regions": int(one.content.crowd.sum()),
        "images_without_boxes": int((counts == 0).sum()),
        "largest_number_of_boxes": int(counts.max(initial=0)),
        "median_side": float(np.median(np.sqrt(wh.prod(1)))) if len(wh) else None,
        "classes": dict(used_classes(one)),
    }


def uneven_classes(one: Surveyed) -> Iterator[Finding]:
    counts = {name: count for name, count in used_classes(one).items() if count}
    if len(counts) < 2:
        return
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= UNEVEN * counts[least]:
        yield Finding(
            *("note", "uneven_classes", one.where, len(counts)),
            f"{counts[most]:,} objects of {most!r}, but {counts[least]:,} of {least!r}",
            "DATALOADER.REPEAT_FACTOR_THRESHOLD shows images of rare classes more often",
        )


def dropped_boxes(one: Surveyed, statistics: dict[str, int]) -> Iterator[Finding]:
    """What a training leaves out. statistics: those of the data set"""
    kinds = {
        "invalid": "without an extent or with numbers that are none",
        "tiny": "of one pixel or less",
        "outside": "outside of their image",
    }
    for code, what in kinds.items():
        if statistics[code]:
            text = f"{share(statistics[code], len(one.content.xywh), 'boxes')} {what}"
            advice = "a training drops them; --fix takes them out"
            yield Finding("warning", code, one.where, statistics[code], text, advice)


def ignored_boxes(one: Surveyed) -> Iterator[Finding]:
    if one.content.flagged:
        yield Finding(
            *("note", "ignored", one.where, one.content.flagged),
            f"{share(one.content.flagged, len(one.content.xywh), 'boxes')} with an 'ignore' flag",
            "they count as crowds; MODEL.ASSIGNER.IGNORE_REGIONS True leaves them out of training",
        )
