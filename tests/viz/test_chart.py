"""Tests line charts: positions of points, gaps, distinct dashes."""

import re
from xml.etree import ElementTree

import numpy as np

from dynamic_atss.viz.chart import MAX_LINES, Line, chart

NAN = float("nan")


def drawn(*lines, **more):
    """Draws a figure and parses it as XML."""
    return ElementTree.fromstring(chart("a <title>", lines, "x & y", "y", **more))


def polylines(figure):
    points = [element.get("points") for element in figure.iter("polyline")]
    return [np.array([pair.split(",") for pair in text.split()], float) for text in points]


def test_points_are_proportional_and_y_goes_up():
    values = np.array([0.0, 0.5, 1.0])
    ((left, bottom), middle, (right, top)), corner = (
        polylines(drawn(Line("up", values, values)))[0],
        polylines(drawn(Line("corner", np.array([0.25]), np.array([1.0]))))[0][0],
    )
    assert left < right and top < bottom
    assert middle.tolist() == [(left + right) / 2, (top + bottom) / 2]
    assert corner.tolist() == [left + (right - left) / 4, top]


def test_a_line_has_gaps_where_it_is_undefined():
    x = np.arange(6) / 5
    figure = drawn(Line("gap", x, np.array([0.1, NAN, 0.2, 0.3, NAN, 0.4]), points=True))
    assert [len(line) for line in polylines(figure)] == [1, 2, 1]
    assert len(list(figure.iter("circle"))) == 4
    assert polylines(drawn(Line("none", x, np.full(6, NAN)))) == []


def test_lines_differ_in_dashes_and_the_key_names_them():
    x = np.array([0.0, 1.0])
    names = ["<b>", "猫", "$x$", "d", "e", "f"]
    figure = drawn(*(Line(name, x, x) for name in names))
    dashes = [line.get("stroke-dasharray") for line in figure.iter("polyline")]
    assert len(set(dashes)) == len(names) == MAX_LINES
    items = list(figure.iter("li"))
    assert ["".join(item.itertext()) for item in items] == names
    assert [item.find(".//path").get("stroke-dasharray") for item in items] == dashes


def test_a_mark_and_the_diagonal_are_additional_lines():
    plain = len(list(drawn().iter("line")))
    marked = drawn(mark=0.5, diagonal=True)
    assert len(list(marked.iter("line"))) == plain + 2
    assert re.search("x &amp; y", ElementTree.tostring(marked).decode())
