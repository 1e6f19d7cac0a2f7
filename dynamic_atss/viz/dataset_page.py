"""One HTML file about data sets: what was found, and plots of classes, sizes and shapes."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from string import Template
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dynamic_atss.data.check.balance import numbers
from dynamic_atss.data.survey import LEVELS, Finding, Surveyed, several
from dynamic_atss.quoting import printable

_BLUE, _GREY = "#2f6f9f", "#888888"
_MOST_CLASSES = 25  # that a plot names
_FEWEST_ROWS = 8  # room for so many: one class alone is no wall
_MOST_ITEMS = 200  # files of a finding that the page lists
_MEANING = {
    "stop": "cannot be trained on or tested with",
    "fix": "is read, but wrong",
    "warning": "may be wrong: look at it",
    "note": "good to know",
}

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Data sets: $verdict</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto;
  padding: 1rem; max-width: 70rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
ul { list-style: none; padding: 0; }
li { border-left: .4rem solid; padding: .3rem .8rem; margin: .6rem 0; background: #f6f6f6; }
.stop, .fix { border-color: #b3261e; } .warning { border-color: #c77700; }
.note { border-color: #5f7f95; }
small { color: #555; display: block; } b { text-transform: uppercase; font-size: .8rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr));
  gap: 1rem; }
figure { margin: 0; } img { width: 100%; height: auto; }
</style></head><body>
<h1>Data sets: $verdict</h1>
<ul>$findings</ul>
$sets
</body></html>
""")


def dataset_page(sets: Iterable[tuple[str, Surveyed]], found: Sequence[Finding]) -> str:
    """The page. sets: with their names. All pictures are in it: it is one file."""
    counts = {level: sum(f.level == level for f in found) for level in LEVELS}
    bad = counts["stop"] + counts["fix"]
    verdict = f"{bad} to fix" if bad else "nothing must be fixed"
    lines = [_line(finding) for finding in found] or ["<li class='note'>Nothing was found.</li>"]
    parts = [_section(name, one) for name, one in sets]
    return _PAGE.substitute(verdict=verdict, findings="\n".join(lines), sets="\n".join(parts))


def _line(finding: Finding) -> str:
    text, advice = _html(finding.text), _html(finding.advice)
    return (
        f'<li class="{finding.level}"><b>{finding.level}</b>: {_MEANING[finding.level]}<br>'
        f"{text}<br>What to do: {advice}.<small>{_breakable(finding.where)}</small>"
        f"{_items(finding)}</li>"
    )


def _html(text: str) -> str:
    return escape(printable(text))


def _items(finding: Finding) -> str:
    shown = "<br>".join(_html(item) for item in finding.items[:_MOST_ITEMS])
    rest = len(finding.items) - _MOST_ITEMS
    shown += f"<br>and {rest:,} more (--json has all)" if rest > 0 else ""
    return f"<details><summary>All of them</summary>{shown}</details>" if finding.items[1:] else ""


def _section(name: str, one: Surveyed) -> str:
    own = numbers(one)
    drawn = PLOTS.items() if own["images"] and own["boxes"] else ()
    plots = "".join(_figure(title, _png(draw, one)) for title, draw in drawn)
    return (
        f"<h2>{_breakable(name)}</h2><p>{several(own['images'], 'image')}, "
        f"{own['images_without_boxes'] or 'none'} without a box; {own['boxes']:,} boxes of "
        f"{len(own['classes'])} classes, at most {own['largest_number_of_boxes']:,} in an image; "
        f"{own['regions']:,} crowds, difficult or ignored boxes.</p>"
        f'<div class="plots">{plots}</div>{_all_classes(own["classes"])}'
    )


def _all_classes(counts: dict[str, int]) -> str:
    """Those that the plot has no room for, too."""
    if len(counts) <= _MOST_CLASSES:
        return ""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{_html(name)}&nbsp;{count:,}" for name, count in ordered)
    return f"<details><summary>All {len(counts)} classes</summary>{shown}</details>"


def _breakable(path: str) -> str:
    """May be broken into lines at its slashes and colons, rather than within a name."""
    return re.sub(r"([/\\:])", r"\1<wbr>", _html(path))


def _figure(title: str, png: str) -> str:
    return f'<figure><img alt="{_html(title)}" src="data:image/png;base64,{png}"></figure>'


def _png(draw: Any, one: Surveyed) -> str:
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, one)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return base64.b64encode(buffer.getvalue()).decode()


def _classes(axes: Axes, one: Surveyed) -> None:
    ordered = sorted(numbers(one)["classes"].items(), key=lambda item: -item[1])
    shown = ordered[:_MOST_CLASSES][::-1]
    names = [name if len(name) <= 20 else name[:19] + "…" for name, _ in shown]
    axes.barh(range(len(shown)), [count for _, count in shown], color=_BLUE)
    axes.set_yticks(range(len(shown)), [n.replace("$", r"\$") for n in names], fontsize=7)
    axes.set_ylim(len(shown) - max(len(shown), _FEWEST_ROWS) - 0.5, len(shown) - 0.5)
    axes.set_xlabel("objects")
    rest = f", the {_MOST_CLASSES} largest of {len(ordered)}" if len(ordered) > len(shown) else ""
    axes.set_title(f"Classes{rest}", fontsize=10)


def _sides(axes: Axes, one: Surveyed) -> None:
    wh = one.content.xywh[one.objects()][:, 2:]
    sides = np.sqrt(wh.prod(1))
    low, high = max(sides.min(), 0.5), max(sides.max(), 1.0)
    axes.hist(sides, bins=np.geomspace(low, high * 1.01, 40).tolist(), color=_BLUE)
    _plain_log_scale(axes, [2.0**power for power in range(13)])
    for edge in (32, 96):  # COCO's small, medium and large
        axes.axvline(edge, color=_GREY, linestyle=":")
    axes.set(xlabel="square root of width x height in pixels", ylabel="boxes")
    axes.set_title("Box sizes (dotted: COCO's small, medium, large)", fontsize=10)


def _plain_log_scale(axes: Axes, ticks: Sequence[float]) -> None:
    """Numbers as people write them in place of powers of ten; those within the plot."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high] or [low, high]  # all boxes are alike
    axes.set_xticks(shown, [f"{tick:.3g}" for tick in shown])
    axes.minorticks_off()


def _shapes(axes: Axes, one: Surveyed) -> None:
    wh = one.content.xywh[one.objects()][:, 2:]
    ratios = np.clip(wh[:, 0] / wh[:, 1], 0.05, 20)
    axes.hist(ratios, bins=np.geomspace(0.05, 20, 40).tolist(), color=_BLUE)
    _plain_log_scale(axes, [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
    axes.axvline(1, color=_GREY, linestyle=":")
    axes.set(xlabel="width / height (0.05 and 20: or beyond)", ylabel="boxes")
    axes.set_title("Box shapes", fontsize=10)


def _images(axes: Axes, one: Surveyed) -> None:
    sizes, counts = np.unique(one.content.sizes, axis=0, return_counts=True)
    area = 12 + 120 * counts / counts.max()
    axes.scatter(sizes[:, 1], sizes[:, 0], s=area, color=_BLUE, alpha=0.4, linewidths=0)
    height, width = sizes.max(0) * 1.1  # the circles of the largest as a whole
    axes.set(xlabel="width", ylabel="height", xlim=(0, width), ylim=(0, height))
    axes.set_title(f"Images: {several(len(sizes), 'size')} (larger: more images)", fontsize=10)


def _per_image(axes: Axes, one: Surveyed) -> None:
    counts = np.bincount(one.content.image[one.objects()], minlength=len(one.names))
    step = -(-(int(counts.max()) + 1) // 40)  # a bar is of whole numbers
    edges = np.arange(0, counts.max() + step + 1, step) - 0.5
    axes.hist(counts, bins=edges.tolist(), color=_BLUE)
    axes.set(xlabel="objects in an image", ylabel="images")
    axes.set_title("Objects per image", fontsize=10)


def _places(axes: Axes, one: Surveyed) -> None:
    chosen = one.objects()
    xywh, sizes = one.content.xywh[chosen], one.content.sizes[one.content.image[chosen]]
    centers = (xywh[:, :2] + xywh[:, 2:] / 2) / np.maximum(sizes[:, ::-1], 1)
    axes.hist2d(centers[:, 0], centers[:, 1], bins=32, range=[[0, 1], [0, 1]], cmap="Blues")
    axes.invert_yaxis()
    axes.set(xlabel="x / width", ylabel="y / height")
    axes.set_title("Centres of the boxes", fontsize=10)


PLOTS = {
    "classes": _classes,
    "box sizes": _sides,
    "box shapes": _shapes,
    "image sizes": _images,
    "objects per image": _per_image,
    "centres": _places,
}
