"""Collects all numbers of a comparison for its reports."""

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
    """Holds a run and its numbers.

    Attributes:
        run: the run.
        measures: the measures of its training.
        agreement: the agreement of its scores and IoUs; None if it could not be measured.
        truth_checksum: of the ground truth of its test; "" if the ground truth could not be read.
    """

    run: Run
    measures: Measures
    agreement: Agreement | None
    truth_checksum: str = ""

    def number(self, name: str) -> float | None:
        """Gives one of NUMBERS; None if it is undefined or not recorded."""
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
    """Holds a compared rule or setting with its runs by seed."""

    label: str
    runs: dict[int, Measured]

    def values(self, name: str) -> dict[int, float]:
        """Gives a number by seed, without undefined values."""
        found = {seed: run.number(name) for seed, run in self.runs.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def spread(self, name: str) -> Spread | None:
        return spread([*self.values(name).values()])

    def same_test(self, other: Column) -> bool:
        """Returns True if both have the same test set and ground truth.

        Compares only the names if one ground truth cannot be read.
        """
        mine, its = (next(iter(column.runs.values())) for column in (self, other))
        unknown = not (mine.truth_checksum and its.truth_checksum)
        same_truth = unknown or mine.truth_checksum == its.truth_checksum
        return mine.run.test_set == its.run.test_set and same_truth


class Comparison(NamedTuple):
    """Holds all numbers of a comparison.

    Attributes:
        columns: the compared rules or settings.
        reference: label of the column that the others are compared with.
        notes: warnings.
        failures: the reason for each run that is missing.
    """

    columns: list[Column]
    reference: str
    notes: list[str]
    failures: dict[str, str]

    def difference(self, column: Column, name: str) -> Difference | None:
        """Gives the difference to the reference; None for the reference, or if not comparable."""
        other = self._reference
        if column is other or not self.comparable(column):
            return None
        return paired(column.values(name), other.values(name))

    def comparable(self, column: Column) -> bool:
        """Returns True if the column has the same test as the reference."""
        return column.same_test(self._reference)

    @property
    def compared(self) -> list[Column]:
        """Lists the other columns that can be compared with the reference."""
        others = [column for column in self.columns if column is not self._reference]
        return [column for column in others if self.comparable(column)]

    @property
    def _reference(self) -> Column:
        return next(column for column in self.columns if column.label == self.reference)

    def to_json(self) -> dict[str, Any]:
        """Gives the content of comparison.json."""
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


# Reads the ground truth of a run's test. May raise UserError.
ReadGroundTruth = Callable[[Run], TruthTable]


def compared(
    groups: Sequence[Group],
    ground_truths: ReadGroundTruth,
    *,
    reference: str = "",
    notes: Sequence[str] = (),
    failures: dict[str, str] | None = None,
) -> Comparison:
    """Computes the numbers of all runs.

    Args:
        reference: a label; "": that of the first group.

    Raises:
        UserError: no group has that label, or a file of a run is broken.
    """
    labels = [group.label for group in groups]
    check_reference(reference, labels)
    all_notes: dict[str, None] = dict.fromkeys(notes)
    columns = [
        Column(
            group.label,
            {seed: _measured(run, ground_truths, all_notes) for seed, run in group.runs.items()},
        )
        for group in groups
    ]
    return Comparison(columns, reference or labels[0], [*all_notes], failures or {})


def check_reference(reference: str, labels: Sequence[str]) -> None:
    """Raises UserError if the reference is not one of the labels."""
    if reference and reference not in labels:
        near = hint(reference, labels, "; the nearest is {!r}")
        raise UserError(f"--reference {reference!r}: give one of {', '.join(labels)}{near}")


def _measured(run: Run, ground_truths: ReadGroundTruth, notes: dict[str, None]) -> Measured:
    checksum = ""
    try:
        truth = ground_truths(run)
        checksum = _checksum(truth)
        table = result_table(read_json(Path(run.results)), str(run.results))
        found = agreement(table, truth)
    except UserError as error:
        found = None
        notes[f"scores and IoUs of detections are not compared for {run.folder}: {error}"] = None
    return Measured(run, measures(run.lines), found, checksum)


def _checksum(truth: TruthTable) -> str:
    """Computes a checksum of the images and their objects."""
    images = sorted(str(image["id"]) for image in truth.images)
    found = hashlib.sha256(repr(images).encode())
    for column in (truth.image_ids, truth.category_ids, truth.boxes):
        found.update(column.tobytes())
    return found.hexdigest()
