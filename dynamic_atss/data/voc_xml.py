"""Reads size, boxes and class names of a PASCAL VOC annotation file (XML)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dynamic_atss.data.flags import flag_of
from dynamic_atss.data.rotation import rotation_in_xml
from dynamic_atss.data.values import as_flag
from dynamic_atss.errors import UserError
from dynamic_atss.reading import XML_BYTES, XML_DEPTH, XML_NODES, read_bytes

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
LARGEST = 2.0**24  # pixels; float32 represents every integer up to it
_STANDARD = ("", "0", "1")  # VOC's values of difficult
_NO_SIZE = ("", "-1", "none", "null", "nan", "unknown")  # these and 0 mean that a size is missing
_OTHER_BOXES = ("robndbox", "polygon", "obb")  # elements for rotated boxes and outlines

ADVICE = "correct it, or remove the image from the split"


@dataclass(frozen=True)
class VocImage:
    """Holds the content of one annotation file.

    Attributes:
        size: (height, width), or 0 if missing.
        names: the class of each object.
        boxes: (x, y, w, h) of each object, in pixels from 0.
        difficult: True for objects that the evaluation ignores.
        rotations: the mark of a rotation of each object, or "" if it has none.
        reversed: number of boxes with a minimum above its maximum.
        words: the values of difficult that are not 0 or 1.
        marks: (name, value) of flags with other names than difficult.
    """

    size: tuple[int, int]
    names: list[str]
    boxes: list[tuple[float, float, float, float]]
    difficult: list[bool]
    rotations: list[str]
    reversed: int = 0
    words: tuple[str, ...] = ()
    marks: tuple[tuple[str, bool], ...] = ()


class _Builder(TreeBuilder):
    """Builds elements. Raises ValueError if they are nested too deeply, or if they are too many."""

    depth = count = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self.depth += 1
        self.count += 1
        if self.count > XML_NODES:
            raise ValueError(f"more than {XML_NODES:,} elements")
        if self.depth > XML_DEPTH:
            raise ValueError(f"nested more than {XML_DEPTH} deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def read_voc_xml(path: Path) -> VocImage:
    """Reads and checks one annotation file.

    VOC counts pixels from 1 and includes the last: x = xmin - 1, w = xmax - xmin + 1. Corners in
    reverse order are swapped. Words for difficult, such as False, are accepted.

    Raises UserError for a file that is missing, malformed or has a DOCTYPE, and for entries that
    are missing or malformed.
    """
    root = parse_xml(path)
    objects = _objects(path, root)
    if not objects and root.tag != "annotation":
        raise UserError(
            f"{path}: its root is <{root.tag}>, not VOC's <annotation>: give a VOC file"
        )
    names = [_name(path, number, o) for number, o in enumerate(objects, 1)]
    corners = [_corners(path, number, o) for number, o in enumerate(objects, 1)]
    words = [(o.findtext("difficult") or "").strip() for o in objects]
    marks = [_marks(path, number, o) for number, o in enumerate(objects, 1)]
    return VocImage(
        size=_size(path, root),
        names=names,
        boxes=[_box(*c) for c in corners],
        difficult=[
            _flag(path, number, "difficult", word) or any(is_set for _, is_set in flags)
            for number, (word, flags) in enumerate(zip(words, marks, strict=True), 1)
        ],
        rotations=[rotation_in_xml(o) for o in objects],
        reversed=sum(x2 < x1 or y2 < y1 for x1, y1, x2, y2 in corners),
        words=tuple(word for word in words if word not in _STANDARD),
        marks=tuple(flag for flags in marks for flag in flags),
    )


def read_class_names(path: Path, advice: str) -> set[str]:
    """Reads the classes of a file's objects, without those of their parts (head, hand, foot).

    Args:
        path: the file.
        advice: is added to the message on malformed XML.
    """
    objects = _objects(path, parse_xml(path, advice))
    return {_name(path, number, o) for number, o in enumerate(objects, 1)}


def parse_xml(path: Path, advice: str = ADVICE) -> Element:
    """Parses a file and returns its root. Refuses a DOCTYPE before its entities take effect.

    Args:
        path: the file.
        advice: is added to the message on malformed XML.

    Raises UserError for a file that is missing, unreadable, malformed or has a DOCTYPE.
    """

    def refuse(*_: object) -> NoReturn:
        raise UserError(f"{path}: has a DOCTYPE, which may define entities: remove it")

    builder, parser = _Builder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(read_bytes(path, XML_BYTES), True)
        return builder.close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the file") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: unknown encoding
        raise UserError(f"{path}: broken XML ({error}): {advice}") from None


def _objects(path: Path, root: Element) -> list[Element]:
    """Returns the objects of a file.

    Raises UserError for objects in other places or with capital letters.
    """
    found = root.findall("object")
    read = set(map(id, found))
    others = [e for e in root.iter() if e.tag.lower() == "object" and id(e) not in read]
    if others:
        raise UserError(
            f"{path}: {len(others)} <{others[0].tag}> cannot be read: write each object as "
            "<object>, directly in <annotation>"
        )
    return found


def _size(path: Path, root: Element) -> tuple[int, int]:
    """Returns (height, width).

    Returns (0, 0) if one is missing, empty or 0, as some tools write.
    """
    sides = []
    for key in ("height", "width"):
        text = root.findtext(f"size/{key}")
        word = (text or "").strip()
        value = 0.0 if word.lower() in _NO_SIZE else _number(word)
        if not 0 <= value < 1e6 or value != int(value):
            raise UserError(
                f"{path}: size/{key} is {_shown(text)}: give the {key} in pixels, or 0 to have it "
                "read from the image file"
            )
        sides.append(int(value))
    return (sides[0], sides[1]) if all(sides) else (0, 0)


def _name(path: Path, number: int, entry: Element) -> str:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise UserError(f"{path}: object {number} has no name: give its class")
    return name


def _corners(path: Path, number: int, entry: Element) -> tuple[float, ...]:
    """Returns xmin, ymin, xmax, ymax as in the file."""
    if len(entry.findall("bndbox")) > 1:
        raise UserError(f"{path}: object {number} has several bndbox: make each an object")
    texts = [entry.findtext(f"bndbox/{key}") for key in _CORNERS]
    for key, text in zip(_CORNERS, texts, strict=True):
        if not abs(_number(text)) <= LARGEST:  # also refuses NaN
            other = next((tag for tag in _OTHER_BOXES if entry.find(tag) is not None), None)
            hint = f" (it has a {other}, which is not read)" if text is None and other else ""
            raise UserError(
                f"{path}: object {number}: bndbox/{key} is {_shown(text)}, not a number of pixels"
                f"{hint}: correct it"
            )
    return tuple(map(_number, texts))


def _box(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    """Converts corners in any order to x, y, w, h."""
    return min(x1, x2) - 1, min(y1, y2) - 1, abs(x2 - x1) + 1, abs(y2 - y1) + 1


def _marks(path: Path, number: int, entry: Element) -> list[tuple[str, bool]]:
    """Returns (name, value) of flags other than difficult, including CVAT's <attribute>."""
    children = [(child.tag, child.text) for child in entry if child.tag != "difficult"]
    named = [(a.findtext("name") or "", a.findtext("value")) for a in entry.iter("attribute")]
    return [
        (name, _flag(path, number, name, (text or "").strip()))
        for name, text in (*children, *named)
        if flag_of(name)
    ]


def _flag(path: Path, number: int, name: str, word: str) -> bool:
    flag = as_flag(word)
    if flag is None:
        raise UserError(
            f"{path}: object {number}: {name} is {_shown(word)}, neither 0 nor 1: correct it"
        )
    return bool(flag)


def _number(text: str | None) -> float:
    """Converts a text to a number. Returns NaN if it is not one."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _shown(text: str | None) -> str:
    """Formats the text of an element for a message."""
    if text is None:
        return "missing"
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."
