"""Which runs are the same but for their seed, and what differs between the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_atss.comparison.names import numbered
from dynamic_atss.comparison.runs import Run
from dynamic_atss.errors import UserError

# What does not tell runs apart: where and how they are computed and logged.
_BESIDE = (
    *("SEED", "OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "SOLVER.TIMEOUT"),
    *("SOLVER.LOG_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.KEEP_CHECKPOINTS"),
    *("TEST.PERIOD", "TEST.IMS_PER_BATCH", "DATASETS.SURVEY"),
)
_RULE = "MODEL.ASSIGNER"
_LONGEST = 48  # characters of a label
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
    firsts = [next(iter(seeds.values())) for seeds in groups.values()]
    labels = _labels(firsts, keys)
    return [Group(label, seeds) for label, seeds in zip(labels, groups.values(), strict=True)]


def _labels(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """One for the first run of each group: its rule and what else differs; where that is long, the
    rule, or, of equal rules, the folder."""
    every = numbered([_label(run, keys) for run in runs])
    rules = [rule_label(run.settings) for run in runs]
    if max(map(len, every)) <= _LONGEST:
        return every
    return rules if len(set(rules)) == len(rules) else _tails([run.folder for run in runs])


def _tails(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(one[-count:]) for one in parts]
        if len(set(found)) == len(found):
            break
    return found


def differing(runs: Sequence[Run]) -> list[str]:
    """The keys that tell the runs apart, without those of where and how they are computed."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in _BESIDE)
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def warnings(runs: Sequence[Run]) -> list[str]:
    """A line, where keys of data and budget differ: the runs are not trained or tested alike."""
    keys = [key for key in differing(runs) if key in _BUDGET]
    told = f"the runs differ in {', '.join(keys)}: a difference may come from that"
    return [told] if keys else []


def in_words(value: Any) -> str:
    """A value of the configuration."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _label(run: Run, keys: Sequence[str]) -> str:
    """The rule with its arguments, then what else differs."""
    rest = [key for key in keys if not of_rule(key)]
    ends = [key.rpartition(".")[2] for key in rest]
    names = [end if ends.count(end) == 1 else key for key, end in zip(rest, ends, strict=True)]
    values = [in_words(run.settings.get(key, "-")) for key in rest]
    told = [f"{name} {value}" for name, value in zip(names, values, strict=True)]
    return ", ".join([rule_label(run.settings), *told])


def rule_label(settings: dict[str, Any]) -> str:
    """As --rules takes it, without the folder of a file; MODEL.ASSIGNER.NAME "" is the head's own
    rule."""
    name = settings.get(f"{_RULE}.NAME") or "the head's rule"
    place, code, rest = name.partition(".py:")
    start = f"{_RULE}.ARGS."
    pairs = [f"{k.removeprefix(start)}={v}" for k, v in settings.items() if k.startswith(start)]
    label = f"{Path(place).name}.py:{rest}" if code else name
    return ",".join([label, *pairs])


def of_rule(key: str) -> bool:
    return key == f"{_RULE}.NAME" or key.startswith(f"{_RULE}.ARGS.")
