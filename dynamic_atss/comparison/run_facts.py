"""States the facts of a comparison: data, budget, seeds, and the settings that differ."""

from __future__ import annotations

from collections.abc import Callable

from dynamic_atss.comparison.groups import differing, in_words, is_rule_key, rule_label
from dynamic_atss.comparison.result import Column, Comparison
from dynamic_atss.comparison.runs import Run
from dynamic_atss.comparison.tables import NONE, Section

_TRAINED = "the same initial weights and the same images in the same order for all rules"
_READ = (
    "runs of one seed have the same settings except the rule; it is not known whether they began "
    "with the same weights and saw the same images in the same order"
)
_DIFFERENT = (
    "runs of one seed differ in more than the rule; they may have begun with other weights or "
    "seen other images"
)


def facts(found: Comparison, *, trained: bool) -> list[str]:
    """Gives the facts as lines.

    Args:
        trained: True if this comparison trained all runs, with one configuration and version.
    """
    seeds = sorted({seed for column in found.columns for seed in column.runs})
    meaning = f"a seed is {_TRAINED}" if trained else _DIFFERENT if _others(found) else _READ
    return [
        f"Trained on {_each(found, lambda run: in_words(run.settings['DATASETS.TRAIN']))}",
        f"Tested on {_each(found, _test)}",
        f"{_each(found, _budget)}",
        f"Seeds {', '.join(map(str, seeds))}: {meaning}",
        f"Differences are to {found.reference}",
    ]


def what_differs(found: Comparison) -> list[Section]:
    """Gives a table of the settings that differ, except those of the rule; [] if none do."""
    keys = _others(found)
    firsts = [_first(column) for column in found.columns]
    rows = [["rule", *(rule_label(run.settings) for run in firsts)]]
    rows += [[key, *(in_words(run.settings.get(key, NONE)) for run in firsts)] for key in keys]
    rows.append(["folders", *map(_folders, found.columns)])
    heads = ["key", *(column.label for column in found.columns)]
    text = "Settings that differ between the runs, except the rule, and the folders of the runs."
    return [Section("settings", "What differs", text, heads, rows)] if keys else []


def _others(found: Comparison) -> list[str]:
    """Gives the keys that differ, except those of the rule."""
    runs = [measured.run for column in found.columns for measured in column.runs.values()]
    return [key for key in differing(runs) if not is_rule_key(key)]


def _first(column: Column) -> Run:
    return next(iter(column.runs.values())).run


def _folders(column: Column) -> str:
    return ", ".join(str(measured.run.folder) for measured in column.runs.values())


def _test(run: Run) -> str:
    return f"{run.test_set} ({run.settings['DATASETS.TEST'][0]})"


def _budget(run: Run) -> str:
    iterations, images = run.settings["SOLVER.MAX_ITER"], run.settings["SOLVER.IMS_PER_BATCH"]
    return f"{iterations} iterations of {images} images each"


def _each(found: Comparison, describe: Callable[[Run], str]) -> str:
    """Describes all columns at once, or each text with its columns where the texts differ."""
    labels_of: dict[str, list[str]] = {}
    for column in found.columns:
        labels_of.setdefault(describe(_first(column)), []).append(column.label)
    if len(labels_of) == 1:
        return next(iter(labels_of))
    return "; ".join(f"{text} [{', '.join(labels)}]" for text, labels in labels_of.items())
