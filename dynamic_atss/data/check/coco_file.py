"""Annotations -> COCO's format, and what hotcoco's health check says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hotcoco
import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.survey import Finding, Surveyed, share
from dynamic_atss.quoting import printable

# Codes of the health check that the survey does not have: level, what the affected are, advice.
HEALTH = {
    "near_duplicate": (
        "warning",
        "boxes that nearly cover another one of their class (IoU above 0.95)",
        "where one object has two boxes, take one out",
    ),
    "extreme_aspect_ratio": (
        "warning",
        "boxes more than 20 times as long as wide",
        "look at them: a side may be wrong",
    ),
    "low_instance_category": (
        "note",
        "classes with fewer than 10 objects",
        "few objects teach little: add some, or join classes",
    ),
}


def to_coco(content: Annotations) -> dict[str, Any]:
    """The top level of a COCO file; the annotations are numbered from 1 in the order of the boxes,
    regions are crowds."""
    sizes = content.sizes.tolist()
    rows = zip(
        content.image_ids[content.image].tolist(),
        content.classes.tolist(),
        content.xywh.tolist(),
        content.areas.tolist(),
        content.crowd.tolist(),
        strict=True,
    )
    return {
        "images": [
            {"id": id, "file_name": name, "height": height, "width": width}
            for id, name, (height, width) in zip(
                content.image_ids.tolist(), content.names.tolist(), sizes, strict=True
            )
        ],
        "categories": [
            {"id": id, "name": name}
            for id, name in zip(content.category_ids, content.class_names, strict=True)
        ],
        "annotations": [
            {
                **{"id": number, "image_id": image, "category_id": content.category_ids[c]},
                **{"bbox": box, "area": area, "iscrowd": int(crowd)},
            }
            for number, (image, c, box, area, crowd) in enumerate(rows, 1)
        ],
    }


def health_findings(one: Surveyed) -> Iterator[Finding]:
    """What hotcoco finds beyond the survey."""
    if not len(one.content.xywh):
        return
    content = one.content
    numbered = replace(  # hotcoco takes UTF-8 and no ids below zero, and none of these is told
        content,
        names=np.array([*map(printable, content.names.tolist())], np.str_),
        image_ids=np.arange(1, len(content.names) + 1),
        category_ids=[*range(1, len(content.class_names) + 1)],
    )
    report = hotcoco.COCO(to_coco(numbered)).healthcheck()
    for code, ids in ((w["code"], w["affected_ids"]) for w in report["warnings"]):
        if code in HEALTH:
            level, what, advice = HEALTH[code]
            classes = code == "low_instance_category"
            total = len(one.content.class_names) if classes else len(one.content.xywh)
            example = "" if classes else f", such as one in {one.image_of(ids[0] - 1)}"
            text = f"{share(len(ids), total, what)}{example}"
            yield Finding(level, code, one.where, len(ids), text, advice)
