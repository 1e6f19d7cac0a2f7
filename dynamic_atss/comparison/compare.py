"""Runs a comparison from its arguments to its numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dynamic_atss import builders
from dynamic_atss.comparison.devices import devices
from dynamic_atss.comparison.ground_truth import GroundTruthReader
from dynamic_atss.comparison.groups import Group, grouped, warnings
from dynamic_atss.comparison.inputs import record_inputs
from dynamic_atss.comparison.plan import Job, planned
from dynamic_atss.comparison.result import Comparison, check_reference, compared
from dynamic_atss.comparison.rules import Rule, parsed
from dynamic_atss.comparison.running import Failure, Runner
from dynamic_atss.comparison.runs import read_run
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.engine.interrupt import Stopped
from dynamic_atss.errors import UserError
from dynamic_atss.files import open_folder


class Request(NamedTuple):
    """Holds the command line's request: rules, seeds and a configuration with overrides."""

    config_file: str
    rules: Sequence[str]
    seeds: Sequence[int]
    overrides: Sequence[str]
    devices: Sequence[str]
    output: Path
    reference: str
    allow_code: bool


def compare_rules(asked: Request) -> tuple[Comparison | None, list[Failure]]:
    """Trains the missing runs and compares all. Gives the comparison and the failed runs.

    The comparison is None if all runs failed.

    Raises:
        UserError: an argument is wrong. No run has started then.
        Stopped: a signal came. The same request resumes the runs.
    """
    rules = parsed(asked.rules)
    labels = _labels(rules)
    check_reference(asked.reference, [*labels, *labels.values()])
    given = devices(asked.devices)
    jobs = planned(
        asked.config_file,
        rules,
        asked.seeds,
        asked.overrides,
        output=asked.output,
        device=given[0].kind,
        allow_code=asked.allow_code,
    )
    datasets, test_sets = _open_data(jobs[0])
    open_folder(asked.output)
    record_inputs(jobs, datasets)
    failures = _run(Runner(jobs, given, test_sets))
    groups = [_group(rule, labels[rule.text], jobs, test_sets) for rule in rules]
    groups = [group for group in groups if group.runs]
    first = asked.reference or rules[0].text
    reference = labels.get(first, first)  # typed, or as the report shows it
    if not groups:
        return None, failures
    found = compared(
        groups,
        # The command line has allowed the code, otherwise no run had started.
        GroundTruthReader(allow_code=True),
        reference=reference if any(group.label == reference for group in groups) else "",
        failures={failure.job.name: failure.reason for failure in failures},
    )
    return found, failures


def _run(runner: Runner) -> list[Failure]:
    try:
        return runner.run()
    except Stopped as stopped:
        print(
            f"{stopped.name}: all runs are saved; repeat the command to resume them",
            file=sys.stderr,
        )
        raise


def compare_runs(
    folders: Sequence[Path], output: Path, *, reference: str = "", allow_code: bool = False
) -> Comparison:
    """Compares finished runs.

    Raises:
        UserError: a folder holds no complete run, or two runs have the same settings and seed.
    """
    runs = [read_run(folder) for folder in folders]
    groups = grouped(runs)
    check_reference(reference, [group.label for group in groups])
    open_folder(output)
    ground_truths = GroundTruthReader(allow_code=allow_code)
    return compared(groups, ground_truths, reference=reference, notes=warnings(runs))


def _labels(rules: Sequence[Rule]) -> dict[str, str]:
    """Gives the label of each rule by its text. Labels that would be equal stay as typed."""
    short = [rule.label for rule in rules]
    return {r.text: r.label if short.count(r.label) == 1 else r.text for r in rules}


def _open_data(job: Job) -> tuple[list[DetectionDataset], list[str]]:
    """Opens all data sets, to report errors before the first run.

    Returns:
        the data sets, and the names of the test sets.

    Raises:
        UserError: a data set cannot be opened, or there is no test set.
    """
    if not job.cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name a test set, whose scores are compared")
    train = builders.build_train_dataset(job.cfg)
    builders.check_num_classes(job.cfg, train)
    tests = builders.build_test_loaders(job.cfg)
    parts = [*train.parts, *(part for one in tests.values() for part in one.dataset.parts)]
    return parts, [*tests]


def _group(rule: Rule, label: str, jobs: Sequence[Job], test_sets: Sequence[str]) -> Group:
    """Reads the complete runs of a rule."""
    complete = [job for job in jobs if job.rule == rule and job.complete(test_sets)]
    return Group(label, {job.seed: read_run(job.folder) for job in complete})
