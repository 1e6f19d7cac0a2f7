"""Builds the common parts of HTML pages: the frame, escaped texts, plots, pictures, tables.

A page is one file that loads nothing from the network or from its folder.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from string import Template

import cv2
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dynamic_atss.quoting import printable

Draw = Callable[[Axes], None]

# From Okabe and Ito (2008). They differ without colour vision, and in grey by their lightness.
BLUE, ORANGE, GREEN, RED, GREY = "#2f6f9f", "#c77700", "#00795c", "#b3261e", "#888888"

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  padding: 1rem; max-width: 70rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
small { color: #555; display: block; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr));
  gap: 1rem; }
figure { margin: 0; } img { width: 100%; height: auto; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; overflow-wrap: normal; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
td { white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td:first-child { white-space: normal; min-width: 5rem; }
$css
</style></head><body>
<h1>$title</h1>
$body
</body></html>
""")


def page(title: str, body: str, css: str = "") -> str:
    """Returns a complete page.

    Args:
        title: plain text, which is also the first heading.
        body: HTML.
        css: the rules of this page.
    """
    return _PAGE.substitute(title=safe(title), body=body, css=css)


def safe(text: object) -> str:
    """Escapes a text for HTML. Shows control characters as escape sequences."""
    return escape(printable(str(text)))


def breakable(path: str) -> str:
    """Escapes a path for HTML. Lets lines break after slashes and colons."""
    return re.sub(r"([/\\:])", r"\1<wbr>", safe(path))


def plot(alt: str, draw: Draw, size: tuple[float, float] = (5.2, 3.6)) -> str:
    """Returns a plot as a `<figure>`.

    Args:
        alt: its description.
        draw: draws on the axes.
        size: width and height in inches of 120 pixels.
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return _figure(alt, "png", buffer.getvalue())


def picture(alt: str, image: torch.Tensor, caption: str = "", max_bytes: int = 200_000) -> str:
    """Returns an image (3, H, W) uint8 RGB as a `<figure>` with a JPEG.

    Args:
        alt: its description.
        image: the image.
        caption: HTML below the image.
        max_bytes: lowers the quality of a JPEG that is larger.
    """
    pixels = image.permute(1, 2, 0).contiguous().numpy()[..., ::-1]
    for quality in (80, 60, 40, 20):
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(data) <= max_bytes:
            break
    return _figure(alt, "jpeg", data.tobytes(), caption)


def _figure(alt: str, kind: str, data: bytes, caption: str = "") -> str:
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img alt="{safe(alt)}" src="{source}">{below}</figure>'


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table of plain texts that scrolls on a narrow screen."""
    head = "".join(f"<th>{safe(text)}</th>" for text in heads)
    lines = ("".join(f"<td>{safe(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def folded(summary: str, body: str) -> str:
    """Hides HTML until the user opens its summary, which is a plain text."""
    return f"<details><summary>{safe(summary)}</summary>{body}</details>"
