"""Shows the confusion matrix of a report as a table, and its largest entries as a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.viz.html import safe, table

MAX_SHOWN = 20  # categories that fit into the table
MAX_CONFUSED = 10
CSS = """.matrix td { text-align: center; min-width: 2.2rem; }
.matrix th[scope=col] { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  max-height: 10rem; padding: .4rem .7rem .4rem 0; }
.matrix th[scope=row] { white-space: nowrap; }"""


def matrix_table(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """Returns the table of a matrix as HTML.

    Args:
        matrix: (K + 1, K + 1) counts. The row is the category of the object, the column the
            detected category. The last row stands for no object, the last column for no detection.
        names: the names of the K categories.
    """
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
    """Returns the categories that are confused most, at most MAX_SHOWN, in order."""
    number = len(matrix) - 1
    between = matrix[:number, :number] * (1 - np.eye(number, dtype=np.int64))
    order = np.argsort(-(between.sum(0) + between.sum(1)), kind="stable")
    return sorted(order[:MAX_SHOWN].tolist())


def most_confused(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """Returns the pairs of categories with the most confusions as an HTML table."""
    number = len(names)
    between = matrix[:number, :number] * (1 - np.eye(number, dtype=np.int64))
    order = np.argsort(-between, axis=None, kind="stable")[:MAX_CONFUSED]
    pairs = [divmod(int(place), number) for place in order]
    rows = [(names[i], names[j], int(between[i, j])) for i, j in pairs if between[i, j]]
    if not rows:
        return ""
    return f"<p>Most frequent confusions:</p>{table(['object', 'detected as', 'times'], rows)}"


def _cell(count: int, share: float) -> str:
    """Returns a cell with its count. It is darker for a larger share of the row."""
    shade = round(255 - 130 * share)  # black text on the darkest shade has a contrast of 7
    text = f"{count:,}" if count else ""
    return f'<td style="background:rgb({shade},{min(255, shade + 25)},255)">{text}</td>'
