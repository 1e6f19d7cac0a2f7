"""Converts numbers of the assignment per image into numbers per box, by the size of the box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Numbers per image for boxes of a size, in a line of the log: "boxes_8to16", "positives_8to16", ...
_COUNT = "boxes_"
_PER_BOX = {"positives": "positives_per_box", "boxes_without_positive": "share_without_positive"}


def per_box(values: Mapping[str, Any]) -> dict[str, float]:
    """Gives, for each size and branch, the positives per box and the share of boxes without one.

    Leaves out sizes without boxes.

    Args:
        values: the numbers of a line, per image.
    """
    result = {}
    for name, boxes in values.items():
        branch, slash, last_part = name.rpartition("/")
        size = last_part.removeprefix(_COUNT)
        is_count = size != last_part and f"{branch}{slash}positives_{size}" in values
        if not is_count or not boxes:
            continue
        for metric, shown_name in _PER_BOX.items():
            number = float(values[f"{branch}{slash}{metric}_{size}"]) / float(boxes)
            result[f"{branch}{slash}{shown_name}/{size}"] = number
    return result
