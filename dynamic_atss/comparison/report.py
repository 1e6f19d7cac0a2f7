"""Writes the files of a comparison: Markdown, JSON, CSV and one HTML page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from dynamic_atss.comparison.conclusions import conclusions
from dynamic_atss.comparison.plots import plots_of
from dynamic_atss.comparison.result import NUMBERS, Comparison
from dynamic_atss.comparison.run_facts import what_differs
from dynamic_atss.comparison.tables import Section, sections
from dynamic_atss.files import write_text
from dynamic_atss.modeling.assignment_metrics import SIZES
from dynamic_atss.quoting import printable
from dynamic_atss.viz import html

STEM = "comparison"  # of the files' names
TITLE = "Comparison of assignment rules"
_CSS = """.warn { border-left: .4rem solid #c77700; background: #f6f6f6; padding: .3rem .8rem; }
figure { max-width: 35rem; } .scroll { margin-bottom: 1rem; }
table { font-size: .85rem; } th, td { padding: .2rem .4rem; white-space: nowrap; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
.settings td { white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
.settings td:first-child { white-space: nowrap; }"""


def write_reports(folder: Path, found: Comparison, facts: Sequence[str]) -> None:
    """Writes comparison.md, .json, .csv and .html.

    Args:
        facts: lines that state which data, budget and runs were compared.

    Raises:
        UserError: a file cannot be written.
    """
    content = {**found.to_json(), "compared": [*facts]}
    write_text(folder / f"{STEM}.json", json.dumps(content, indent=1, allow_nan=False))
    write_text(folder / f"{STEM}.csv", table_of_runs(found))
    write_text(folder / f"{STEM}.md", markdown(found, facts))
    write_text(folder / f"{STEM}.html", page(found, facts))


def table_of_runs(found: Comparison) -> str:
    """Gives CSV with a line for each run. A number that is undefined or missing is empty."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    by_size = [f"{name}_{size}" for name in ("positives_per_box", "without") for size in SIZES]
    rows.writerow(["rule", "seed", *NUMBERS, "max_mem_mb", *by_size, "folder"])
    for column in found.columns:
        for seed, run in column.runs.items():
            measures = run.measures
            shares = (measures.positives, measures.without)
            sizes = [by_box.get(size) for by_box in shares for size in SIZES]
            numbers = [*run.numbers().values(), measures.memory, *sizes]
            rows.writerow([column.label, seed, *numbers, run.run.folder])
    return text.getvalue()


def markdown(found: Comparison, facts: Sequence[str]) -> str:
    """Gives the report in Markdown."""
    parts = [f"# {TITLE}", _items(facts), "## Conclusions", _items(conclusions(found))]
    if notes := _notes(found):
        parts += ["## Notes", _items(notes)]
    for section in _sections(found):
        parts += [f"## {section.title}", section.text, _markdown_table(section)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sections(found: Comparison) -> list[Section]:
    return [*sections(found), *what_differs(found)]


def _notes(found: Comparison) -> list[str]:
    """Gives the warnings and the missing runs."""
    return [*found.notes, *(f"{run} is missing: {why}" for run, why in found.failures.items())]


def _items(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _markdown_table(section: Section) -> str:
    if not section.rows:
        return ""
    lines = [section.heads, ["---", *["---:"] * (len(section.heads) - 1)], *section.rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Escapes a text so that it cannot end a cell or a line."""
    return printable(text).replace("|", "\\|")


def page(found: Comparison, facts: Sequence[str]) -> str:
    """Gives the report as one HTML file that loads nothing."""
    parts = [
        _list(facts),
        "<h2>Conclusions</h2>",
        _list(conclusions(found)),
        *(f'<p class="warn">{html.safe(note)}</p>' for note in _notes(found)),
        *(_section(section, found) for section in _sections(found)),
    ]
    return html.page(TITLE, "\n".join(parts), _CSS)


def _section(section: Section, found: Comparison) -> str:
    table = html.table(section.heads, section.rows) if section.rows else ""
    return (
        f"<h2>{html.safe(section.title)}</h2><p>{html.safe(section.text)}</p>"
        f'<div class="{section.key}">{table}</div>'
        f'<div class="plots">{plots_of(section.key, found)}</div>'
    )


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.safe(line)}</li>' for line in lines)}</ul>"
