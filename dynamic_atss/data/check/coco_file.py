"""Converts annotations to COCO's format and runs hotcoco's health check on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hotcoco
import numpy as np

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.survey import Finding, SurveyInput, share
from dynamic_atss.quoting import printable

# Maps each code of the health check that the survey lacks to level, description and advice.
HEALTH = {
    "near_duplicate": (
        "warning",
        "boxes that nearly cover another one of their class (IoU above 0.95)",
        "if an object has two boxes, remove one",
    ),
    "extreme_aspect_ratio": (
        "warning",
        "boxes more than 20 times as long as wide",
        "look at them: a side may be wrong",
    ),
    "low_instance_category": (
        "note",
        "classes with fewer than 10 objects",
        "these are too few to learn from: add objects, or join classes",
    ),
}


def to_coco(content: Annotations) -> dict[str, Any]:
    """Makes the content of a COCO file. Numbers annotations from 1. Writes regions as crowds."""
    sizes = content.sizes.tolist()
    rows = zip(
        content.image_ids[content.image_index].tolist(),
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
                "id": number,
                "image_id": image_id,
                "category_id": content.category_ids[c],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image_id, c, box, area, crowd) in enumerate(rows, 1)
        ],
    }


def health_findings(data: SurveyInput) -> Iterator[Finding]:
    """Finds faults that hotcoco's health check detects and the survey does not."""
    if not len(data.content.xywh):
        return
    content = data.content
    numbered = replace(  # hotcoco needs UTF-8 and ids >= 0; no finding shows them
        content,
        names=np.array([*map(printable, content.names.tolist())], np.str_),
        image_ids=np.arange(1, len(content.names) + 1),
        category_ids=[*range(1, len(content.class_names) + 1)],
    )
    report = hotcoco.COCO(to_coco(numbered)).healthcheck()
    for code, ids in ((w["code"], w["affected_ids"]) for w in report["warnings"]):
        if code in HEALTH:
            level, description, advice = HEALTH[code]
            of_classes = code == "low_instance_category"
            total = len(data.content.class_names) if of_classes else len(data.content.xywh)
            example = "" if of_classes else f", such as one in {data.image_of(ids[0] - 1)}"
            text = f"{share(len(ids), total, description)}{example}"
            yield Finding(level, code, data.where, len(ids), text, advice)
