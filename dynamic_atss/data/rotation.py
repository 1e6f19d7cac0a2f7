"""Finds marks of rotated boxes, whose upright boxes do not enclose the objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from dynamic_atss.data.attributes import attributes_of

ANGLES = ("rotation", "angle", "theta", "rotation_angle", "bbox_rotation")
BOXES = ("rbbox", "rbox", "rotated_bbox", "rotated_box", "obb", "robndbox")
_KEYS = frozenset((*ANGLES, *BOXES))


def rotation_of(entry: Mapping[str, Any]) -> str:
    """Returns the mark of a rotation in an annotation or in its "attributes" (CVAT).

    Returns "" if there is none.
    """
    for part in (entry, attributes_of(entry)):
        for key in () if _KEYS.isdisjoint(part) else _KEYS.intersection(part):
            value = part[key]
            if bool(value) if key in BOXES else _turns(value):
                return f"{key} {str(value)[:40]}"
    return ""


def rotation_in_xml(entry: Element) -> str:
    """Returns the mark of a rotation in an <object> of an XML file. Returns "" if there is none.

    The mark is an element, an element of <bndbox>, or CVAT's <attribute>.
    """
    named = {a.findtext("name") or "": a.findtext("value") for a in entry.iter("attribute")}
    children = {
        child.tag: child.text for part in (entry, *entry.findall("bndbox")) for child in part
    }
    boxes = {tag: "box" for tag in BOXES if entry.find(tag) is not None}
    return rotation_of({**children, **named, **boxes})


def count_rotated(marks: Iterable[tuple[str, str]]) -> tuple[int, str]:
    """Counts the marks in pairs (annotation's name, mark). Returns the number and an example."""
    found = [(name, mark) for name, mark in marks if mark]
    return (len(found), f"{found[0][0]} ({found[0][1]})") if found else (0, "")


def _turns(value: Any) -> bool:
    """Returns True if an angle is not a multiple of 360 degrees."""
    if isinstance(value, bool):  # an attribute without a value
        return False
    try:
        angle = float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return math.isfinite(angle) and angle % 360 != 0
