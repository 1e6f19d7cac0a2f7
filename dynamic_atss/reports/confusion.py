"""The confusion matrix of a report: as a table with numbers, and its largest entries in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.viz.html import safe, table

MOST_SHOWN = 20  # categories that the table has room for
MOST_CONFUSED = 10
CSS = """.matrix td { text-align: center; min-width: 2.2rem; }
.matrix th[scope=col] { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  max-height: 10rem; padding: .4rem .7rem .4rem 0; }
.matrix th[scope=row] { white-space: nowrap; }"""


def matrix_table(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """matrix (K + 1, K + 1): objects of a category by what they are detected as; last: none."""
    chosen = shown_categories(matrix)
    heads = [*(names[k] for k in chosen), "none"]
    places = [*chosen, len(names)]
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    columns = "".join(f'<th scope="col">{safe(name)}</th>' for name in heads)
    rows = [f"<tr><th></th>{columns}</tr>"]
    for name, i in zip(heads, places, strict=True):
        cells = "".join(_cell(int(matrix[i, j]), float(share[i, j])) for j in places)
        rows.append(f'<tr><th scope="row">{safe(name)}</th>{cells}</tr>')
    rows[-1] = rows[-1].removesuffix(f"{_cell(0, 0.0)}</tr>") + "<td></td></tr>"
    return f'<div class="scroll"><table class="matrix">{"".join(rows)}</table></div>'


def shown_categories(matrix: NDArray[np.int64]) -> list[int]:
    """All, or of many those with the most confusions with others, in their order."""
    number = len(matrix) - 1
    between = matrix[:number, :number] * (1 - np.eye(number, dtype=np.int64))
    order = np.argsort(-(between.sum(0) + between.sum(1)), kind="stable")
    return sorted(order[:MOST_SHOWN].tolist())


def most_confused(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """The pairs of categories that are taken for each other most often, as a table."""
    number = len(names)
    between = matrix[:number, :number] * (1 - np.eye(number, dtype=np.int64))
    order = np.argsort(-between, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), number) for place in order]
    rows = [(names[i], names[j], int(between[i, j])) for i, j in pairs if between[i, j]]
    if not rows:
        return ""
    return f"<p>Most often taken for another:</p>{table(['object', 'detected as', 'times'], rows)}"


def _cell(count: int, share: float) -> str:
    """Darker for a larger share of the row; the number tells it without the shade."""
    shade = round(255 - 130 * share)  # black on the darkest has a contrast of 7
    text = f"{count:,}" if count else ""
    return f'<td style="background:rgb({shade},{min(255, shade + 25)},255)">{text}</td>'
