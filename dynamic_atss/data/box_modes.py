"""Reads `bbox_mode`, by which detectron2's annotations give the form of `bbox`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamic_atss.data.coco_boxes import is_box
from dynamic_atss.data.wording import and_others, annotation_name, short
from dynamic_atss.errors import UserError

_MODES = ("XYXY_ABS", "XYWH_ABS", "XYXY_REL", "XYWH_REL", "XYWHA_ABS")  # the index is the number
_READ = ("XYXY_ABS", "XYWH_ABS")


def read_modes(path: Path, entries: Sequence[dict[str, Any]]) -> list[str]:
    """Converts boxes of mode XYXY_ABS to x, y, w, h, in place. Returns notes with the counts.

    Raises UserError for an unknown mode, for fractions, and for rotated boxes.
    """
    given = [(number, entry) for number, entry in enumerate(entries) if "bbox_mode" in entry]
    modes = [_mode(entry["bbox_mode"]) for _, entry in given]
    wrong = [place for place, mode in enumerate(modes) if mode not in _READ]
    if wrong:
        number, entry = given[wrong[0]]
        raise UserError(
            f"{path}: {annotation_name(entry, number)}: bbox_mode {short(entry['bbox_mode'])} "
            f"({modes[wrong[0]]}) is not supported: write x, y, width and height in pixels, and "
            f"remove bbox_mode{and_others(wrong)}"
        )
    for (_, entry), mode in zip(given, modes, strict=True):
        if mode == "XYXY_ABS" and is_box(entry.get("bbox")):
            x1, y1, x2, y2 = entry["bbox"]
            entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "bbox_mode": _MODES.index("XYWH_ABS")}
    counts = Counter(modes)
    return [f"{n} annotations are read by their bbox_mode {mode}" for mode, n in counts.items()]


def _mode(value: Any) -> str:
    """Returns the name of a mode, which is given as a number, as a name, or as `BoxMode.<name>`."""
    if type(value) is int:
        return _MODES[value] if 0 <= value < len(_MODES) else "unknown"
    name = str(value).rpartition(".")[2].upper()
    return name if name in _MODES else "unknown"
