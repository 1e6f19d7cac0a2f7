"""Writes the results of stages to gpu.json, gpu.md and benchmarks.md; makes one line for each."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import report

from on_gpu import goals
from on_gpu.runner import FAILED, OK, TIMED_OUT, Result

MOST = 9  # rows of a benchmark in its line


def of_summary(found: Any, output: str) -> str:
    """Returns the summary that a script writes itself."""
    return str(found["summary"])


def of_pytest(found: Any, output: str) -> str:
    """Returns the closing line of pytest."""
    kinds = r"\d+ (passed|failed|skipped|errors?)\b.* in [\d.]+s"
    counts = [line for line in output.splitlines() if re.search(kinds, line)]
    return counts[-1].strip("= ")


def of_sanitizer(found: Any, output: str) -> str:
    """Returns the closing lines of the sanitizer and of pytest."""
    ends = [line.strip("= ") for line in output.splitlines() if "SUMMARY" in line]
    return "; ".join([*ends[-1:], of_pytest(found, output)])


def of_rows(found: Any, output: str) -> str:
    """Shortens the first rows of a benchmark, those that failed before; benchmarks.md has all."""
    told = [row for row in found if row["ours_s"] is not None or row["note"]]
    rows = sorted(told, key=lambda row: not row.get("failed", False))
    more = f"; and {len(rows) - MOST} more" if len(rows) > MOST else ""
    return "; ".join(map(_row, rows[:MOST])) + more


def _row(row: dict[str, Any]) -> str:
    ratio = f", {row['ratio']:.2f} x {row['peer']}" if row["ratio"] else ""
    memory = f", {row['ours_mb']:.0f} MB" if row["ours_mb"] else ""
    note = f", {row['note']}" if row["note"] else ""
    if row["ours_s"] is None:
        return f"{row['case']}: {row['note']}"
    return f"{row['case']}: {row['ours_s'] * 1e3:.3g} ms{ratio}{memory}{note}"


def closing(results: Sequence[Result], planned: int, seconds: float, budget: float) -> str:
    """Counts the stages by result, in one line."""
    states = Counter("not run" if r.state.startswith("not run") else r.state for r in results)
    counts = ", ".join(f"{states[s]} {s}" for s in (FAILED, TIMED_OUT, "not run") if states[s])
    names = ", ".join(r.name for r in results if r.bad)
    open_ = f", {planned - len(results)} to come" if planned > len(results) else ""
    return (
        f"{states[OK]} of {planned} stages ok{', ' if counts else ''}{counts}{open_}; "
        f"{seconds:.0f} of {budget:.0f} s" + (f"; look at: {names}" if names else "")
    )


def write(output: Path, results: Sequence[Result], command: str, line: str) -> None:
    """Writes each file completely or not at all."""
    machine = next((r.found for r in results if r.name == "environment" and r.found), {})
    stages = [{**vars(r), "seconds": round(r.seconds, 1)} for r in results]
    content = {"command": command, "closing": line, "machine": machine, "stages": stages}
    _replace(output / "gpu.json", json.dumps(content, indent=1))
    _replace(output / "gpu.md", _markdown(results, machine, command, line))
    rows = rows_of(results)
    if rows:
        text = report.markdown(rows, machine.get("machine", {}))
        _replace(output / "benchmarks.md", f"# Benchmarks\n\n{text}")


def rows_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Lists the rows of all benchmarks."""
    return [row for r in results if isinstance(r.found, list) for row in r.found]


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def _markdown(results: Sequence[Result], machine: dict[str, Any], command: str, line: str) -> str:
    table = ["| stage | state | seconds | what came out |", "|---|---|---:|---|"]
    for r in results:
        summary = r.summary.replace("|", "\\|").replace("\n", " ")
        table.append(f"| {r.name} | {r.state} | {r.seconds:.0f} | {summary} |")
    gpus = [gpu["name"] for gpu in machine.get("gpus", [])]
    reached = goals.markdown(rows_of(results), gpus[0] if gpus else "")
    parts = ["# GPU check", machine.get("summary", ""), f"`{command}`", reached, "\n".join(table)]
    for r in results:
        if r.state in (FAILED, TIMED_OUT):
            parts.append(f"## {r.name}: {r.state}; the end of its output\n\n```\n{r.end}\n```")
    return "\n\n".join(filter(None, [*parts, f"**{line}**"])) + "\n"
