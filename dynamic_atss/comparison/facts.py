"""What was compared: data, budget, seeds, and in what the runs differ."""

from __future__ import annotations

from collections.abc import Callable

from dynamic_atss.comparison.groups import differing, in_words, of_rule, rule_label
from dynamic_atss.comparison.result import Column, Comparison
from dynamic_atss.comparison.runs import Run
from dynamic_atss.comparison.tables import NONE, Section

_TRAINED = "the same initial weights and the same images in the same order for all rules"
_FOUND = (
    "runs of one seed have the same settings but for the rule; whether they began with the same "
    "weights and saw the same images in the same order is not known"
)
_OTHERWISE = (
    "runs of one seed differ in more than the rule, and need not have begun with the same weights "
    "or seen the same images"
)


def facts(found: Comparison, *, trained: bool) -> list[str]:
    """In lines. trained: all runs are of this comparison, with one configuration and version."""
    seeds = sorted({seed for column in found.columns for seed in column.runs})
    told = f"a seed is {_TRAINED}" if trained else _OTHERWISE if _others(found) else _FOUND
    return [
        f"Trained on {_each(found, lambda run: in_words(run.settings['DATASETS.TRAIN']))}",
        f"Tested on {_each(found, _test)}",
        f"{_each(found, _budget)}",
        f"Seeds {', '.join(map(str, seeds))}: {told}",
        f"Differences are to {found.reference}",
    ]


def what_differs(found: Comparison) -> list[Section]:
    """A table of the settings that differ, beside those of the rule; none, where none does."""
    keys = _others(found)
    firsts = [_first(column) for column in found.columns]
    rows = [["rule", *(rule_label(run.settings) for run in firsts)]]
    rows += [[key, *(in_words(run.settings.get(key, NONE)) for run in firsts)] for key in keys]
    rows.append(["folders", *map(_folders, found.columns)])
    heads = ["key", *(column.label for column in found.columns)]
    text = "Settings beside the rule that are not the same in all runs, and where the runs are."
    return [Section("settings", "What differs", text, heads, rows)] if keys else []


def _others(found: Comparison) -> list[str]:
    """The keys that differ, without those of the rule."""
    runs = [one.run for column in found.columns for one in column.runs.values()]
    return [key for key in differing(runs) if not of_rule(key)]


def _first(column: Column) -> Run:
    return next(iter(column.runs.values())).run


def _folders(column: Column) -> str:
    return ", ".join(str(one.run.folder) for one in column.runs.values())


def _test(run: Run) -> str:
    return f"{run.test_set} ({run.settings['DATASETS.TEST'][0]})"


def _budget(run: Run) -> str:
    of = run.settings
    return f"{of['SOLVER.MAX_ITER']} iterations of {of['SOLVER.IMS_PER_BATCH']} images each"


def _each(found: Comparison, told: Callable[[Run], str]) -> str:
    """What is told of all columns; where that differs, with whom it is told of."""
    whose: dict[str, list[str]] = {}
    for column in found.columns:
        whose.setdefault(told(_first(column)), []).append(column.label)
    if len(whose) == 1:
        return next(iter(whose))
    return "; ".join(f"{text} [{', '.join(labels)}]" for text, labels in whose.items())
