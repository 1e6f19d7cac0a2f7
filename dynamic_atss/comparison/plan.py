"""Plans the runs of a comparison: every rule with every seed, and otherwise equal settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.comparison.rules import Rule
from dynamic_atss.config.code import with_absolute_code
from dynamic_atss.config.load import load_config, parse_config
from dynamic_atss.config.record import NAME as CONFIG
from dynamic_atss.config.record import changes
from dynamic_atss.errors import UserError
from dynamic_atss.files import write_text
from dynamic_atss.reading import YAML_BYTES, read_text

SETTINGS = "settings.yaml"  # in a run's folder: the configuration that it starts with
# Keys that may differ when a run is resumed, because they do not change its numbers.
FREE_KEYS = ("OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "SOLVER.TIMEOUT")
_RESERVED_KEYS = {
    "MODEL.ASSIGNER.NAME": "give it by --rules",
    "MODEL.ASSIGNER.ARGS": "write it in --rules as NAME,argument=value",
    "SEED": "give it by --seeds",
    "OUTPUT_DIR": "give it by --output",
    "MODEL.DEVICE": "give it by --devices",
}


class Job(NamedTuple):
    """Describes a planned run with its complete configuration."""

    rule: Rule
    seed: int
    cfg: CfgNode

    @property
    def folder(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR)

    @property
    def name(self) -> str:
        return f"{self.rule.label}, seed {self.seed}"

    def complete(self, test_sets: Iterable[str]) -> bool:
        """Returns True if the run is trained, and tested on all of these sets."""
        scores = [self.folder / "inference" / name / "coco_metrics.json" for name in test_sets]
        return all(path.is_file() for path in (self.folder / "model_final.pth", *scores))

    def write_settings(self, device: str) -> Path:
        """Writes the configuration to train with and gives its path.

        Args:
            device: the value of MODEL.DEVICE.
        """
        cfg = with_absolute_code(self.cfg)
        cfg.MODEL.DEVICE = device
        write_text(self.folder / SETTINGS, cfg.dump())
        return self.folder / SETTINGS


def planned(
    config_file: str,
    rules: Sequence[Rule],
    seeds: Sequence[int],
    overrides: Sequence[str],
    *,
    output: Path,
    device: str,
    allow_code: bool,
) -> list[Job]:
    """Plans the runs. Writes nothing.

    Orders the runs by seed, so that complete seeds can be compared if the time runs out. Arguments
    in the configuration apply only to the rule that the configuration names.

    Args:
        device: the value of MODEL.DEVICE.

    Raises:
        UserError: a rule does not exist or does not fit the head, or a folder holds a run with
            other settings.
    """
    _check(config_file, seeds, overrides)
    cfg = load_config(config_file, overrides, allow_code=allow_code)
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    configs = [_with_rule(cfg, rule) for rule in rules]
    for config in configs:
        builders.check_config(config)
    jobs = [
        Job(rule, seed, _with_seed(config, seed, output / rule.folder / f"seed_{seed}"))
        for seed in seeds
        for rule, config in zip(rules, configs, strict=True)
    ]
    for job in jobs:
        _refuse_changes(job)
    return jobs


def _check(config_file: str, seeds: Sequence[int], overrides: Sequence[str]) -> None:
    if not config_file:
        raise UserError("--config-file is missing: give the YAML file that all rules train with")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"--seeds {[*seeds]}: give one seed or more, each once, 0 or above")
    for key in overrides[::2]:
        for reserved, advice in _RESERVED_KEYS.items():
            if key == reserved or key.startswith(f"{reserved}."):
                raise UserError(f"command line: {key} cannot be set here: {advice}")


def _with_rule(cfg: CfgNode, rule: Rule) -> CfgNode:
    found = cfg.clone()
    section = found.MODEL.ASSIGNER
    if rule.name != section.NAME:
        section.ARGS = CfgNode()
    section.NAME = rule.name
    section.ARGS.update(rule.arguments)
    return found


def _with_seed(cfg: CfgNode, seed: int, folder: Path) -> CfgNode:
    found = cfg.clone()
    found.SEED, found.OUTPUT_DIR = seed, str(folder)
    return found


def _refuse_changes(job: Job) -> None:
    path = job.folder / CONFIG
    if not path.is_file():
        return
    try:
        # A key that the run's version did not have yet takes its default.
        recorded = parse_config(read_text(path, YAML_BYTES), str(path), allow_code=True)
        found = changes(recorded.dump(), with_absolute_code(job.cfg).dump())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be compared with the present settings ({error}); choose another "
            "--output"
        ) from None
    other = [line for line in found if line.partition(" ")[0] not in FREE_KEYS]
    if other:
        more = f" and {len(other) - 3} more" if other[3:] else ""
        raise UserError(
            f"{job.folder}: holds a run with other settings ({'; '.join(other[:3])}{more}); choose "
            "another --output, or delete the folder"
        )
