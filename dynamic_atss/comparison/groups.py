"""Which runs are the same but for their seed, and what differs between the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_atss.comparison.runs import Run
from dynamic_atss.errors import UserError

# What does not tell runs apart: where and how they are computed and logged.
_BESIDE = (
    *("SEED", "OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "SOLVER.TIMEOUT"),
    *("SOLVER.LOG_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.KEEP_CHECKPOINTS"),
    *("TEST.PERIOD", "TEST.IMS_PER_BATCH", "DATASETS.SURVEY"),
)
_RULE = "MODEL.ASSIGNER"
# With another of these a difference may not be the rule's.
_BUDGET = (
    *("DATASETS.TRAIN", "DATASETS.TEST", "MODEL.WEIGHT", "SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH"),
    *("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
)


class Group(NamedTuple):
    """The runs of one rule, or of one setting, by seed."""

    label: str
    runs: dict[int, Run]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs in groups that differ in their seeds alone, in the order given; no two have one label.

    Raises:
        UserError: none, or two of one group and one seed.
    """
    if not runs:
        raise UserError("no run to compare: give the folders of two runs or more")
    keys = differing(runs)
    groups: dict[tuple[str, ...], dict[int, Run]] = {}
    for run in runs:
        seeds = groups.setdefault(tuple(repr(run.settings.get(key)) for key in keys), {})
        if run.seed in seeds:
            raise UserError(
                f"{seeds[run.seed].folder} and {run.folder}: have the same settings and SEED "
                f"{run.seed}: give one of them"
            )
        seeds[run.seed] = run
    found = [Group(_label(next(iter(seeds.values())), keys), seeds) for seeds in groups.values()]
    return _distinct(found)


def _distinct(groups: Sequence[Group]) -> list[Group]:
    """Rules in files of one name in two folders are numbered."""
    labels: list[str] = []
    for group in groups:
        same = sum(label.partition(" #")[0] == group.label for label in labels)
        labels.append(f"{group.label} #{same + 1}" if same else group.label)
    return [group._replace(label=label) for group, label in zip(groups, labels, strict=True)]


def differing(runs: Sequence[Run]) -> list[str]:
    """The keys that tell the runs apart, without those of where and how they are computed."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in _BESIDE)
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def warnings(runs: Sequence[Run]) -> list[str]:
    """A line for each key of data and budget that differs: the runs are not trained alike."""
    return [
        f"the runs differ in {key} ({_values(key, runs)}): a difference may come from that"
        for key in differing(runs)
        if key in _BUDGET
    ] + _of_test_sets(runs)


def _of_test_sets(runs: Sequence[Run]) -> list[str]:
    names = dict.fromkeys(run.test_set for run in runs)
    told = f"the runs are tested on different data sets ({', '.join(names)})"
    return [f"{told}: their scores cannot be compared"] if len(names) > 1 else []


def _values(key: str, runs: Sequence[Run]) -> str:
    return ", ".join(dict.fromkeys(str(run.settings.get(key)) for run in runs))


def _label(run: Run, keys: Sequence[str]) -> str:
    """The rule with its arguments, then what else differs."""
    rest = [f"{key} {run.settings.get(key, '-')}" for key in keys if not _of_rule(key)]
    return ", ".join([rule_label(run.settings), *rest])


def rule_label(settings: dict[str, Any]) -> str:
    """As --rules takes it, without the folder of a file; MODEL.ASSIGNER.NAME "" is the head's own
    rule."""
    name = settings.get(f"{_RULE}.NAME") or "the head's rule"
    place, code, rest = name.partition(".py:")
    start = f"{_RULE}.ARGS."
    pairs = [f"{k.removeprefix(start)}={v}" for k, v in settings.items() if k.startswith(start)]
    label = f"{Path(place).name}.py:{rest}" if code else name
    return ",".join([label, *pairs])


def _of_rule(key: str) -> bool:
    return key == f"{_RULE}.NAME" or key.startswith(f"{_RULE}.ARGS.")
