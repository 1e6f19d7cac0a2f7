"""Converts rows of measurements to Markdown.

python benchmarks/report.py results.json page.md

The tables replace the text of the page below the line MARK.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MARK = "<!-- by benchmarks/report.py -->"


def markdown(rows: Sequence[Row], machine: dict[str, str]) -> str:
    """Makes a table for each stage. A case on the CPU and on the GPU shares one line."""
    named = ", ".join(f"{key} {value}" for key, value in machine.items() if value)
    parts = [f"Medians of calls that take turns in one process; {named}."]
    for stage in dict.fromkeys(row["stage"] for row in rows):
        of_stage = [row for row in rows if row["stage"] == stage]
        # States which operators ran in their slow form, as they are not compiled.
        others = {row.get("operators") or "native" for row in of_stage} - {"native"}
        parts.append(
            "\n\n".join([f"## {stage}", *(f"Operators: {o}." for o in others), _table(of_stage)])
        )
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    """Makes a table without empty columns."""
    pairs: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        device = "cuda" if row["device"] == "cuda" else "cpu"
        pairs.setdefault((row["case"], row["peer"]), {})[device] = row
    lines = [_cells(pair.get("cpu", {}), pair.get("cuda", {})) for pair in pairs.values()]
    shown = [title for title in lines[0] if any(line[title] for line in lines)]
    head = f"| {' | '.join(shown)} |\n|{'|'.join('---' if t in _TEXT else '---:' for t in shown)}|"
    return "\n".join([head, *(f"| {' | '.join(line[t] for t in shown)} |" for line in lines)])


_TEXT = ("case", "peer", "limit", "same result", "note")


def _cells(cpu: Row, gpu: Row) -> dict[str, str]:
    """Returns the text of each cell by the title of its column."""
    row = cpu or gpu
    return {
        "case": row["case"],
        "peer": row["peer"],
        "ours": _seconds(cpu.get("ours_s")),
        "peer's": _seconds(cpu.get("peer_s")),
        "faster": _times(cpu.get("ratio")),
        "limit": row["limit"],
        "limit's": _seconds(cpu.get("limit_s")),
        "ours / limit": _of_limit(cpu),
        "ours, peak": _megabytes(cpu.get("ours_mb")),
        "peer's, peak": _megabytes(cpu.get("peer_mb")),
        "GPU: ours": _seconds(gpu.get("ours_s")),
        "GPU: peer's": _seconds(gpu.get("peer_s")),
        "GPU: faster": _times(gpu.get("ratio")),
        "GPU: ours / limit": _of_limit(gpu),
        "GPU: ours, peak": _megabytes(gpu.get("ours_mb")),
        "GPU: peer's, peak": _megabytes(gpu.get("peer_mb")),
        "same result": row["same"],
        "note": row["note"],
    }


def _of_limit(row: Row) -> str:
    if row.get("limit_s") is None or row.get("ours_s") is None:
        return ""
    return f"{row['ours_s'] / row['limit_s']:.2f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.{1 if value >= 2 else 2}f} x"


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1e3:.{1 if value >= 0.01 else 3}f} ms"


def _megabytes(value: float | None) -> str:
    return "" if value is None else f"{value:.{0 if value >= 100 else 2}f} MB"


def with_tables(page: str, results: dict[str, Any]) -> str:
    """Returns the page with new tables below the line MARK."""
    text, mark, _ = page.partition(MARK)
    assert mark, f"the page has no line {MARK}"
    return f"{text}{MARK}\n\n{markdown(results['rows'], results['machine'])}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of run.py")
    parser.add_argument("page", type=Path, help="page of docs/ to write")
    args = parser.parse_args()
    results = json.loads(args.results.read_text("utf-8"))
    args.page.write_text(with_tables(args.page.read_text("utf-8"), results), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
