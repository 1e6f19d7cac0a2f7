"""Numbers of the assignment as one reads them: per box, by the size of the box."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of the boxes of one size, per image, in a line of the log: "boxes_8to16", "positives_8to16", ...
_COUNT = "boxes_"
_PER_BOX = {"positives": "positives_per_box", "boxes_without_positive": "share_without_positive"}


def per_box(values: Mapping[str, Any]) -> dict[str, float]:
    """From a line's numbers per image, by size and of each branch: positives per box, and the share
    of the boxes without one. Sizes that no box of the line has are left out."""
    found = {}
    for name, boxes in values.items():
        branch, slash, own = name.rpartition("/")
        size = own.removeprefix(_COUNT)
        counted = size != own and f"{branch}{slash}positives_{size}" in values
        if not counted or not boxes:
            continue
        for what, shown in _PER_BOX.items():
            number = float(values[f"{branch}{slash}{what}_{size}"]) / float(boxes)
            found[f"{branch}{slash}{shown}/{size}"] = number
    return found
