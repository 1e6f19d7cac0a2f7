"""Reads VOC's XML files and YOLO's labels that are damaged or have texts of any kind."""

import numpy as np
import pytest
from helpers_fuzz import REFUSED, bytes_of, damaged, outcome, texts
from hypothesis import given
from hypothesis import strategies as st

from dynamic_atss.data.voc_names import read_lines
from dynamic_atss.data.voc_xml import LARGEST, read_class_names, read_voc_xml
from dynamic_atss.data.yolo_labels import Labels
from dynamic_atss.data.yolo_layout import read_layout

pytestmark = pytest.mark.slow

CLASSES = 3
ROWS = st.lists(texts | st.just("0.5"), max_size=9).map(" ".join)
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><filename>x.jpg</filename>
<size><width>30</width><height>20</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><truncated>1</truncated>
<bndbox><xmin>2</xmin><ymin>3.5</ymin><xmax>12</xmax><ymax>20</ymax></bndbox>
<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part></object>
<object><name>d&amp;g</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>1</xmax><ymax>1</ymax></bndbox>
</object></annotation>
"""
TAGS = ("object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax", "difficult", "size", "width")
PIECES = (
    "<!DOCTYPE a [<!ENTITY b 'c'>]>",
    "&b;",
    "&#0;",
    "<![CDATA[x]]>",
    "<!-- -->",
    "<?x y?>",
    "<a>" * 40,
    "</a>",
    "</annotation>",
    "<object/>",
    "<name/>",
    '<size width="3"/>',
)
LABELS = "0 0.5 0.5 0.25 0.25\n2 0.1 0.1 0.2 0.1 0.2 0.3\n\n1 .5 .5 1 1\n"
LAYOUT = (
    "path: .\ntrain: images/train\nval: [a, b.txt]\nnames: {0: cat, 1: dog}\nkpt_shape: [17, 3]"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("voc")


@st.composite
def odd_xml(draw):
    """Draws XML with other texts in some elements, and other pieces between them."""
    text = XML
    for _ in range(draw(st.integers(0, 3))):
        opened = f"<{draw(st.sampled_from(TAGS))}>"
        head, found, tail = text.partition(opened)
        new = draw(texts) if draw(st.booleans()) else draw(st.sampled_from(PIECES))
        keep = tail[tail.find("<") :] if draw(st.booleans()) else tail
        text = head + found + new + keep
    return text


def read_both(path, data):
    """Reads a file, and its classes with the other function, and compares both."""
    path.write_bytes(data)
    image, names = outcome(read_voc_xml, path), outcome(read_class_names, path, "correct it")
    if image is not REFUSED:
        assert names == set(image.names)
        check_image(image)


def check_image(image):
    boxes = np.array(image.boxes).reshape(-1, 4)
    assert len(boxes) == len(image.names) == len(image.difficult) == len(image.rotations)
    assert np.isfinite(boxes).all() and (boxes[:, 2:] >= 1).all()
    assert (np.abs(boxes) <= 2 * LARGEST + 1).all() and all(image.names)
    assert all(type(side) is int and 0 <= side < 1e6 for side in image.size)


@given(data=bytes_of(odd_xml()))
def test_texts_of_any_kind(folder, data):
    read_both(folder / "a.xml", data)


@given(data=damaged([XML.encode(), XML.replace("utf-8", "utf-16").encode("utf-16"), b"<a/>"]))
def test_damaged_xml(folder, data):
    read_both(folder / "b.xml", data)


@given(
    data=st.one_of(
        damaged([LABELS.encode()]),
        bytes_of(st.lists(ROWS).map("\n".join)),
    ),
    keypoints=st.integers(0, 4),
)
def test_labels(folder, data, keypoints):
    path = folder / "labels.txt"
    path.write_bytes(data)
    labels = Labels(CLASSES, keypoints)
    if outcome(labels.read, path) is REFUSED or outcome(labels.check) is REFUSED:
        return
    (rows,) = labels.rows
    assert np.isfinite(rows).all() and np.isin(rows[:, 0], range(CLASSES)).all()
    assert len(np.unique(rows, axis=0)) == len(rows)


@given(data=damaged([LAYOUT.encode(), b"names: [a, b]\ntrain: x\n"]))
def test_layouts(folder, data):
    path = folder / "data.yaml"
    path.write_bytes(data)
    layout = outcome(read_layout, path)
    assert layout is REFUSED or all(isinstance(name, str) for name in layout.names)


@given(data=st.one_of(damaged([b"a\nb 1\nc -1\n"]), bytes_of(texts)))
def test_lists(folder, data):
    path = folder / "list.txt"
    path.write_bytes(data)
    lines = outcome(read_lines, path)
    assert lines is REFUSED or all(line.strip() for line in lines)
