"""One PASCAL VOC annotation file (XML) -> its size, boxes and class names."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dynamic_atss.data.rotation import rotation_in_xml
from dynamic_atss.errors import UserError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
LARGEST = 2.0**24  # pixels: up to here float32 has all whole numbers
_YES_OR_NO = {"0": False, "": False, "1": True}


@dataclass(frozen=True)
class VocImage:
    """size (height, width) · names of the objects' classes · boxes (x, y, w, h) of each, in pixels
    counted from 0 · difficult, whether evaluation leaves the object out · rotations, what each
    object says of one, "" without
    """

    size: tuple[int, int]
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    difficult: list[bool]
    rotations: list[str]


def read_voc_xml(path: Path) -> VocImage:
    """Reads and checks one file.

    VOC counts pixels from 1 and includes the last: x = xmin - 1, w = xmax - xmin + 1.
    Raises UserError: file missing, broken or with a DOCTYPE; entries missing or malformed.
    """
    root = parse_xml(path)
    objects = root.findall("object")
    return VocImage(
        size=_size(path, root),
        names=[_name(path, number, o) for number, o in enumerate(objects, 1)],
        boxes=[_box(path, number, o) for number, o in enumerate(objects, 1)],
        difficult=[_difficult(path, number, o) for number, o in enumerate(objects, 1)],
        rotations=[rotation_in_xml(o) for o in objects],
    )


def read_class_names(path: Path, mend: str) -> set[str]:
    """The classes of one file's objects; their parts (head, hand, foot) are none.

    mend: what the message on broken XML advises
    """
    objects = parse_xml(path, mend).findall("object")
    return {_name(path, number, o) for number, o in enumerate(objects, 1)}


def parse_xml(path: Path, mend: str = "mend it, or take the image out of the split") -> Element:
    """The root element. A DOCTYPE, and so every entity, is refused before it takes effect.

    mend: what the message on broken XML advises

    Raises UserError: file missing, unreadable, not well-formed, or with a DOCTYPE.
    """

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"{path}: has a DOCTYPE, which may define entities: take it out")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the file") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter: unknown encodings
        raise UserError(f"{path}: broken XML ({error}): {mend}") from None


def _size(path: Path, root: Element) -> tuple[int, int]:
    sides = []
    for key in ("height", "width"):
        text = root.findtext(f"size/{key}")
        value = _number(text)
        if not 0 < value < 1e6 or value != int(value):
            raise UserError(f"{path}: size/{key} is {_shown(text)}: give the image's in pixels")
        sides.append(int(value))
    return sides[0], sides[1]


def _name(path: Path, number: int, entry: Element) -> str:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{path}: object {number} has no name: give its class")
    return name


def _box(path: Path, number: int, entry: Element) -> tuple[float, float, float, float]:
    texts = [entry.findtext(f"bndbox/{key}") for key in _CORNERS]
    left, top, right, bottom = map(_number, texts)
    for key, text in zip(_CORNERS, texts, strict=True):
        if not abs(_number(text)) <= LARGEST:  # so written, NaN is refused, too
            raise UserError(
                f"{path}: object {number}: bndbox/{key} is {_shown(text)}, not a number of pixels: "
                "correct it"
            )
    if right < left or bottom < top:
        raise UserError(
            f"{path}: object {number}: bndbox {' '.join(map(str, texts))} (xmin ymin xmax ymax) "
            "has a minimum above its maximum: correct it"
        )
    return left - 1, top - 1, right - left + 1, bottom - top + 1


def _difficult(path: Path, number: int, entry: Element) -> bool:
    text = (entry.findtext("difficult") or "").strip()
    if text not in _YES_OR_NO:
        raise UserError(
            f"{path}: object {number}: difficult is {_shown(text)}, neither 0 nor 1: correct it"
        )
    return _YES_OR_NO[text]


def _number(text: str | None) -> float:
    """NaN for what is no number."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _shown(text: str | None) -> str:
    """How messages show an element's text."""
    if text is None:
        return "missing"
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."
