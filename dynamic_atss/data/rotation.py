"""Marks of rotated boxes in annotation files, whose upright boxes do not surround the objects."""

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
    """What an annotation, or its "attributes" (CVAT), says of a rotation; "" where it is none."""
    for part in (entry, attributes_of(entry)):
        for key in () if _KEYS.isdisjoint(part) else _KEYS.intersection(part):
            value = part[key]
            if bool(value) if key in BOXES else _turns(value):
                return f"{key} {str(value)[:40]}"
    return ""


def rotation_in_xml(entry: Element) -> str:
    """The same of an <object>: as an element, below <bndbox>, or as CVAT's <attribute>."""
    named = {a.findtext("name") or "": a.findtext("value") for a in entry.iter("attribute")}
    children = {
        child.tag: child.text for part in (entry, *entry.findall("bndbox")) for child in part
    }
    boxes = {tag: "box" for tag in BOXES if entry.find(tag) is not None}
    return rotation_of({**children, **named, **boxes})


def count_rotated(marks: Iterable[tuple[str, str]]) -> tuple[int, str]:
    """(number, first example) of (name of an annotation, its mark)."""
    found = [(name, mark) for name, mark in marks if mark]
    return (len(found), f"{found[0][0]} ({found[0][1]})") if found else (0, "")


def _turns(value: Any) -> bool:
    """Whether an angle is not a multiple of a whole turn."""
    if isinstance(value, bool):  # the name of an attribute alone
        return False
    try:
        angle = float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return math.isfinite(angle) and angle % 360 != 0
