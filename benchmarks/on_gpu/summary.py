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
from on_gpu.runner import FAILED, NOTHING, OK, TIMED_OUT, Result

MOST = 6  # rows of a benchmark in its line
REASONS = 4  # of skipped tests in the line of a stage
OTHER_WORK = ("torch.sigmoid of the logits",)  # peers that do less: a ratio says nothing of speed
DRY = "Dry run on a CPU with toy sizes: no number counts"


def of_summary(found: Any, output: str) -> str:
    """Returns the summary that a script writes itself."""
    return str(found["summary"])


def of_pytest(found: Any, output: str) -> str:
    """Returns the closing line of pytest, and why tests were skipped."""
    skipped = _skipped(output)
    return f"{_counts(output)}{'; skipped: ' if skipped else ''}{skipped}"


def _counts(output: str) -> str:
    """Returns the closing line of pytest. Raises IndexError without one."""
    kinds = r"\d+ (passed|failed|skipped|errors?)\b.* in [\d.]+s"
    return [line for line in output.splitlines() if re.search(kinds, line)][-1].strip("= ")


def _skipped(output: str) -> str:
    """Lists the most frequent reasons of skipped tests, from the lines of `pytest -rs`."""
    reasons: Counter[str] = Counter()
    for count, reason in re.findall(r"^SKIPPED \[(\d+)\] \S+: (.*)$", output, re.MULTILINE):
        reasons[reason] += int(count)
    parts = [f"{count}: {reason}" for reason, count in reasons.most_common(REASONS)]
    parts += [f"and {len(reasons) - REASONS} more reasons"] if len(reasons) > REASONS else []
    return "; ".join(parts)


def passed(output: str) -> bool:
    """Returns True if a test of pytest passed."""
    try:
        return re.search(r"\b[1-9]\d* passed", _counts(output)) is not None
    except IndexError:
        return False


def of_sanitizer(found: Any, output: str) -> str:
    """Returns the closing lines of the sanitizer and of pytest."""
    ends = [line.strip("= ") for line in output.splitlines() if "SUMMARY" in line]
    return "; ".join([*ends[-1:], of_pytest(found, output)])


def of_rows(found: Any, output: str) -> str:
    return "; ".join(_first_rows(found))


def _first_rows(found: Any) -> list[str]:
    """Gives a line for each of the first rows, those that failed before; benchmarks.md has all."""
    told = [row for row in found if row["ours_s"] is not None or row["note"]]
    rows = sorted(told, key=lambda row: not row.get("failed", False))
    more = [f"and {len(rows) - MOST} more in benchmarks.md"] if len(rows) > MOST else []
    return [*map(_row, rows[:MOST]), *more]


def _row(row: dict[str, Any]) -> str:
    """Says what a row measures, and what came out."""
    stage, case = row["stage"].removeprefix("whole "), row["case"]
    name = case if case == stage else f"{stage}: {case}"
    if row["ours_s"] is None:
        return f"{name}: {row['note']}"
    parts = [f"{row['ours_s'] * 1e3:.3g} ms"]
    if row["ratio"] and row["peer"] in OTHER_WORK:
        parts.append(f"{row['peer']} {row['peer_s'] * 1e3:.3g} ms")
    elif row["ratio"]:
        parts.append(f"{row['ratio']:.2f} x as fast as {row['peer'] or 'before'}")
    parts += [f"peak {row['ours_mb']:.{_digits(row['ours_mb'])}f} MB"] if row["ours_mb"] else []
    parts += [row["note"]] if row["note"] else []
    return f"{name}: {', '.join(parts)}"


def _digits(value: float) -> int:
    return 0 if value >= 10 else 2


def closing(results: Sequence[Result], planned: int, seconds: float, budget: float) -> str:
    """Counts the stages by result, in one line."""
    states = Counter("not run" if r.state.startswith("not run") else r.state for r in results)
    counts = ", ".join(
        f"{states[s]} {s}" for s in (FAILED, TIMED_OUT, NOTHING, "not run") if states[s]
    )
    names = ", ".join(r.name for r in results if r.bad)
    open_ = f", {planned - len(results)} to come" if planned > len(results) else ""
    return (
        f"{states[OK]} of {planned} stages ok{', ' if counts else ''}{counts}{open_}; "
        f"{seconds:.0f} of {budget:.0f} s" + (f"; look at: {names}" if names else "")
    )


def write(
    output: Path, results: Sequence[Result], command: str, line: str, dry: bool = False
) -> None:
    """Writes each file completely or not at all.

    Args:
        dry: True for a dry run, whose numbers do not count.
    """
    machine = next((r.found for r in results if r.name == "environment" and r.found), {})
    stages = [{**vars(r), "seconds": round(r.seconds, 1)} for r in results]
    rows = rows_of(results)
    content = {"command": command, "dry_run": dry, "closing": line, "machine": machine}
    content |= {"goals": goals.listed(rows, _gpu(machine)), "stages": stages}
    _replace(output / "gpu.json", json.dumps(content, indent=1))
    title = f"# {DRY}" if dry else "# GPU check"
    _replace(output / "gpu.md", _markdown(results, machine, title, command, line))
    if rows:
        text = report.markdown(rows, machine.get("machine", {}))
        title = f"# {DRY}" if dry else "# Benchmarks"
        _replace(output / "benchmarks.md", f"{title}\n\n{text}")


def _gpu(machine: dict[str, Any]) -> str:
    """Returns the name of the first GPU, or ""."""
    return next((str(gpu["name"]) for gpu in machine.get("gpus", [])), "")


def rows_of(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Lists the rows of all benchmarks."""
    return [row for r in results if isinstance(r.found, list) for row in r.found]


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def _markdown(
    results: Sequence[Result], machine: dict[str, Any], title: str, command: str, line: str
) -> str:
    table = ["| stage | state | seconds | what came out |", "|---|---|---:|---|"]
    for r in results:
        state, _, reason = r.state.partition(": ")  # "not run: why"
        text = "; ".join(filter(None, (reason, r.summary)))
        if isinstance(r.found, list) and text:
            text = "<br>".join(_first_rows(r.found))  # a line each
        text = text.replace("|", "\\|").replace("\n", " ")
        table.append(f"| {r.name} | {state} | {r.seconds:.0f} | {text} |")
    reached = goals.markdown(rows_of(results), _gpu(machine))
    parts = [title, machine.get("summary", ""), f"`{command}`", reached]
    parts += ["## Stages", "\n".join(table)]
    for r in results:
        if r.state in (FAILED, TIMED_OUT):
            parts.append(f"## {r.name}: {r.state}; the end of its output\n\n```\n{r.end}\n```")
    return "\n\n".join(filter(None, [*parts, f"**{line}**"])) + "\n"
