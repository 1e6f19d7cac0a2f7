"""Draws line charts as SVG, which are sharp at any size and use the page's font.

Lines differ in colour and in dashes, to be readable without colour vision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.viz.html import BLUE, GREEN, ORANGE, RED, safe

STYLES = (
    *((BLUE, ""), (ORANGE, "9 4"), (GREEN, "2 3")),
    *((RED, "10 3 2 3"), ("#222222", "16 4"), ("#7a5195", "5 5")),
)
MAX_LINES = len(STYLES)
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 420, 300, 48, 10, 408, 250

CSS = """figure svg { width: 100%; height: auto; font: 13px system-ui, sans-serif; }
figcaption { font-size: .85rem; } .key { list-style: none; padding: 0; margin: 0 0 0 3rem; }
.key svg { width: 2.6rem; height: .8rem; margin-right: .4rem; }"""


@dataclass(frozen=True)
class Line:
    """Describes a line of a chart.

    Attributes:
        name: the text in the key.
        x, y: (n,) from 0 to 1. NaN makes a gap.
        points: True if each point has a mark.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    points: bool = False


def chart(
    title: str, lines: Sequence[Line], x: str, y: str, *, diagonal: bool = False, mark: Any = None
) -> str:
    """Draws a `<figure>` of at most `MAX_LINES` lines over [0, 1] x [0, 1], with a key.

    Args:
        title: the heading.
        lines: the lines.
        x, y: the names of the axes.
        diagonal: True draws x = y.
        mark: an x to mark, or None.
    """
    parts = [_axes(x, y)]
    if diagonal:
        parts.append(_segment((0, 0), (1, 1), "stroke='#888' stroke-dasharray='4 4'"))
    if mark is not None:
        parts.append(_segment((mark, 0), (mark, 1), "stroke='#444' stroke-dasharray='3 3'"))
    parts += [_line(line, *style) for line, style in zip(lines, STYLES, strict=False)]
    label = safe(f"{title}: {', '.join(line.name for line in lines)}")
    drawn = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    key = "".join(_key(line, *style) for line, style in zip(lines, STYLES, strict=False))
    return (
        f"<figure><h3>{safe(title)}</h3>{drawn}{''.join(parts)}</svg>"
        f'<ul class="key">{key}</ul></figure>'
    )


def _axes(x: str, y: str) -> str:
    parts = []
    for tick in np.arange(6) / 5:
        px, py = _place(tick, tick)
        parts += [
            _segment((tick, 0), (tick, 1), "stroke='#e4e4e4'"),
            _segment((0, tick), (1, tick), "stroke='#e4e4e4'"),
            f"<text x='{px:.0f}' y='{_BOTTOM + 17}' text-anchor='middle'>{tick:.1f}</text>",
            f"<text x='{_LEFT - 6}' y='{py + 4:.0f}' text-anchor='end'>{tick:.1f}</text>",
        ]
    middle = (_TOP + _BOTTOM) // 2
    return "".join(parts) + (
        f"<text x='{(_LEFT + _RIGHT) // 2}' y='{_HEIGHT - 10}' text-anchor='middle'>"
        f"{safe(x)}</text><text x='14' y='{middle}' text-anchor='middle' "
        f"transform='rotate(-90 14 {middle})'>{safe(y)}</text>"
    )


def _place(x: float, y: float) -> tuple[float, float]:
    return _LEFT + x * (_RIGHT - _LEFT), _BOTTOM - y * (_BOTTOM - _TOP)


def _segment(start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    (x1, y1), (x2, y2) = _place(*start), _place(*end)
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' {style}/>"


def _line(line: Line, color: str, dashes: str) -> str:
    known = np.isfinite(line.x) & np.isfinite(line.y)
    pieces = np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1)
    pieces = [piece for piece in pieces if len(piece) and known[piece[0]]]
    style = f"fill='none' stroke='{color}' stroke-width='2' stroke-dasharray='{dashes}'"
    drawn = [f"<polyline points='{_points(line, piece)}' {style}/>" for piece in pieces]
    if line.points:
        places = [_place(line.x[i], line.y[i]) for i in np.flatnonzero(known)]
        drawn += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{color}'/>" for x, y in places]
    return "".join(drawn)


def _points(line: Line, piece: NDArray[np.int64]) -> str:
    places = (_place(line.x[i], line.y[i]) for i in piece)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _key(line: Line, color: str, dashes: str) -> str:
    stroke = f"stroke='{color}' stroke-width='3' stroke-dasharray='{dashes}'"
    sample = f"<svg viewBox='0 0 42 12' aria-hidden='true'><path d='M0 6h42' {stroke}/></svg>"
    return f"<li>{sample}{safe(line.name)}</li>"
