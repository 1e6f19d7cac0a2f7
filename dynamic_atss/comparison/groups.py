"""Groups runs that differ only in their seeds, and finds what differs between the groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_atss.comparison.names import numbered
from dynamic_atss.comparison.runs import Run
from dynamic_atss.errors import UserError

# Keys that do not separate runs, because they only change how a run is computed and logged.
_NEUTRAL_KEYS = (
    *("SEED", "OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "SOLVER.TIMEOUT"),
    *("SOLVER.LOG_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "SOLVER.KEEP_CHECKPOINTS"),
    *("TEST.PERIOD", "TEST.IMS_PER_BATCH", "DATASETS.SURVEY"),
)
_RULE = "MODEL.ASSIGNER"
_LONGEST = 48  # characters of a label
# If one of these keys differs, a difference in AP may not come from the rule.
_BUDGET = (
    *("DATASETS.TRAIN", "DATASETS.TEST", "MODEL.WEIGHT", "SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH"),
    *("INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
)


class Group(NamedTuple):
    """Holds the runs of one rule or one setting, by seed."""

    label: str
    runs: dict[int, Run]


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Groups runs that differ only in their seeds, in the given order. Labels are unique.

    Raises:
        UserError: there are no runs, or two runs have the same settings and seed.
    """
    if not runs:
        raise UserError("no run to compare: give the folders of two or more runs")
    keys = differing(runs)
    groups: dict[tuple[str, ...], dict[int, Run]] = {}
    for run in runs:
        seeds = groups.setdefault(tuple(repr(run.settings.get(key)) for key in keys), {})
        if run.seed in seeds:
            raise UserError(
                f"{seeds[run.seed].folder} and {run.folder} have the same settings and SEED "
                f"{run.seed}: give only one of them"
            )
        seeds[run.seed] = run
    firsts = [next(iter(seeds.values())) for seeds in groups.values()]
    labels = _labels(firsts, keys)
    return [Group(label, seeds) for label, seeds in zip(labels, groups.values(), strict=True)]


def _labels(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """Labels the first run of each group.

    A label is the rule and the other settings that differ. Long labels become the rule only, or
    the folder if the rules are equal.
    """
    full = numbered([_label(run, keys) for run in runs])
    rules = [rule_label(run.settings) for run in runs]
    if max(map(len, full)) <= _LONGEST:
        return full
    return rules if len(set(rules)) == len(rules) else _tails([run.folder for run in runs])


def _tails(folders: Sequence[Path]) -> list[str]:
    """Gives the last parts of the paths: the fewest that make them distinct."""
    paths = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, paths)) + 1):
        found = ["/".join(parts[-count:]) for parts in paths]
        if len(set(found)) == len(found):
            break
    return found


def differing(runs: Sequence[Run]) -> list[str]:
    """Gives the keys that differ between the runs, except `_NEUTRAL_KEYS`."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in _NEUTRAL_KEYS)
    return [key for key in keys if len({repr(run.settings.get(key)) for run in runs}) > 1]


def warnings(runs: Sequence[Run]) -> list[str]:
    """Gives a warning if the runs differ in their data or budget."""
    keys = [key for key in differing(runs) if key in _BUDGET]
    warning = f"the runs differ in {', '.join(keys)}: a difference in AP may come from that"
    return [warning] if keys else []


def in_words(value: Any) -> str:
    """Formats a value of the configuration."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _label(run: Run, keys: Sequence[str]) -> str:
    """Gives the rule of a run with its arguments, then the other settings that differ."""
    others = [key for key in keys if not is_rule_key(key)]
    ends = [key.rpartition(".")[2] for key in others]
    names = [end if ends.count(end) == 1 else key for key, end in zip(others, ends, strict=True)]
    values = [in_words(run.settings.get(key, "-")) for key in others]
    settings = [f"{name} {value}" for name, value in zip(names, values, strict=True)]
    return ", ".join([rule_label(run.settings), *settings])


def rule_label(settings: dict[str, Any]) -> str:
    """Gives the rule as in --rules, without the folder of a file.

    An empty MODEL.ASSIGNER.NAME stands for the default rule of the head.
    """
    name = settings.get(f"{_RULE}.NAME") or "the head's rule"
    place, code, class_name = name.partition(".py:")
    start = f"{_RULE}.ARGS."
    pairs = [f"{k.removeprefix(start)}={v}" for k, v in settings.items() if k.startswith(start)]
    label = f"{Path(place).name}.py:{class_name}" if code else name
    return ",".join([label, *pairs])


def is_rule_key(key: str) -> bool:
    return key == f"{_RULE}.NAME" or key.startswith(f"{_RULE}.ARGS.")
