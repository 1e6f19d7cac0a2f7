"""All numbers of a comparison, as its reports show them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_atss.comparison.agreement import Agreement, agreement
from dynamic_atss.comparison.groups import Group
from dynamic_atss.comparison.measures import Measures, measures
from dynamic_atss.comparison.runs import Run
from dynamic_atss.comparison.statistics import CONFIDENCE, Difference, Spread, paired, spread
from dynamic_atss.data.annotations import read_json
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.ground_truth import TruthTable
from dynamic_atss.evaluation.results import result_table
from dynamic_atss.suggest import hint

SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# Numbers of a run that have a spread and differences.
CORRELATIONS = ("pearson", "spearman", "pearson_matched", "spearman_matched")
NUMBERS = (*SCORES, *CORRELATIONS, "positives", "iou_of_positives", "seconds")

FORMAT = "dynamic_atss comparison 1"


class Measured(NamedTuple):
    """A run and its numbers; agreement: None where it could not be measured · truth: tells what
    was to be found in its test, "": that could not be read."""

    run: Run
    measures: Measures
    agreement: Agreement | None
    truth: str = ""

    def number(self, name: str) -> float | None:
        """One of NUMBERS; None where it is undefined or was not recorded."""
        if name in CORRELATIONS:
            return getattr(self.agreement, name, None)
        found = self.measures
        of_training = {
            "positives": found.per_image,
            "iou_of_positives": found.overlap_at_end,
            "seconds": found.seconds,
        }
        return of_training[name] if name in of_training else self.run.scores.get(name)

    def numbers(self) -> dict[str, float | None]:
        return {name: self.number(name) for name in NUMBERS}


class Column(NamedTuple):
    """What is compared: a rule, or a setting, with its runs by seed."""

    label: str
    runs: dict[int, Measured]

    def values(self, name: str) -> dict[int, float]:
        """A number by seed."""
        found = {seed: run.number(name) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def spread(self, name: str) -> Spread | None:
        return spread([*self.values(name).values()])

    def same_test(self, other: Column) -> bool:
        """Whether both were to find the same objects; by the name of the test set where those of
        one cannot be read any more."""
        mine, its = (next(iter(column.runs.values())) for column in (self, other))
        unknown = not (mine.truth and its.truth)
        return mine.run.test_set == its.run.test_set and (unknown or mine.truth == its.truth)


class Comparison(NamedTuple):
    """reference: the label of the column that the others are compared with · notes: warnings, and
    what could not be measured · failures: runs that are not in it, and why"""

    columns: list[Column]
    reference: str
    notes: list[str]
    failures: dict[str, str]

    def difference(self, column: Column, name: str) -> Difference | None:
        """To the reference; None of the reference, and of what cannot be compared with it."""
        other = self._reference
        if column is other or not self.comparable(column):
            return None
        return paired(column.values(name), other.values(name))

    def comparable(self, column: Column) -> bool:
        """Whether its test is that of the reference."""
        return column.same_test(self._reference)

    @property
    def compared(self) -> list[Column]:
        """All but the reference that can be compared with it."""
        others = [column for column in self.columns if column is not self._reference]
        return [column for column in others if self.comparable(column)]

    @property
    def _reference(self) -> Column:
        return next(column for column in self.columns if column.label == self.reference)

    def to_json(self) -> dict[str, Any]:
        """What comparison.json holds."""
        return {
            "format": FORMAT,
            "reference": self.reference,
            "confidence": CONFIDENCE,
            "notes": self.notes,
            "failures": self.failures,
            "rules": [self._column_json(column) for column in self.columns],
        }

    def _column_json(self, column: Column) -> dict[str, Any]:
        spreads = {name: column.spread(name) for name in NUMBERS}
        differences = {name: self.difference(column, name) for name in NUMBERS}
        return {
            "label": column.label,
            "comparable": self.comparable(column),
            "numbers": {n: x._asdict() for n, x in spreads.items() if x},
            "differences": {
                n: {**x._asdict(), "verdict": x.verdict} for n, x in differences.items() if x
            },
            "runs": [_run_json(run) for run in column.runs.values()],
        }


def _run_json(measured: Measured) -> dict[str, Any]:
    run, found = measured.run, measured.measures
    return {
        "seed": run.seed,
        "folder": str(run.folder),
        "test_set": run.test_set,
        **measured.numbers(),
        "max_mem_mb": found.memory,
        "positives_per_box": found.positives,
        "share_without_positive": found.without,
        "agreement": measured.agreement and measured.agreement._asdict(),
    }


Truths = Callable[[Run], TruthTable]  # what was to be found in a run's test; may raise UserError


def compared(
    groups: Sequence[Group],
    truths: Truths,
    *,
    reference: str = "",
    notes: Sequence[str] = (),
    failures: dict[str, str] | None = None,
) -> Comparison:
    """The numbers of all runs. reference: a label, "" the first group's.

    Raises:
        UserError: no group of that label; a file of a run that is broken.
    """
    labels = [group.label for group in groups]
    check_reference(reference, labels)
    told: dict[str, None] = dict.fromkeys(notes)
    columns = [
        Column(
            group.label, {seed: _measured(run, truths, told) for seed, run in group.runs.items()}
        )
        for group in groups
    ]
    return Comparison(columns, reference or labels[0], [*told], failures or {})


def check_reference(reference: str, labels: Sequence[str]) -> None:
    """Raises UserError: it is none of the labels."""
    if reference and reference not in labels:
        near = hint(reference, labels, "; the nearest is {!r}")
        raise UserError(f"--reference {reference!r}: compared are {', '.join(labels)}{near}")


def _measured(run: Run, truths: Truths, notes: dict[str, None]) -> Measured:
    told = ""
    try:
        truth = truths(run)
        told = _told(truth)
        table = result_table(read_json(Path(run.results)), str(run.results))
        found = agreement(table, truth)
    except UserError as error:
        found = None
        notes[f"scores and IoUs of detections are not compared for {run.folder}: {error}"] = None
    return Measured(run, measures(run.lines), found, told)


def _told(truth: TruthTable) -> str:
    """A checksum of the images and their objects."""
    images = sorted(str(image["id"]) for image in truth.images)
    found = hashlib.sha256(repr(images).encode())
    for column in (truth.image_ids, truth.category_ids, truth.boxes):
        found.update(column.tobytes())
    return found.hexdigest()
