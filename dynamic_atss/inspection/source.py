"""Whose predictions are shown: the checkpoints of a run, one file of weights, or the first ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss.builders import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.checkpoint import load_checkpoint
from dynamic_atss.engine.newest import by_iteration
from dynamic_atss.errors import UserError
from dynamic_atss.inference.restore import recorded_config
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.dual import Dual
from dynamic_atss.weights import load_weights

TRAINED = "trained_model"  # of a checkpoint that has an average: what the rule saw in training


@dataclass(frozen=True)
class Step:
    """Weights of one moment.

    file: None for those that a training begins with · iteration: None where it is not known
    """

    file: Path | None
    iteration: int | None

    @property
    def name(self) -> str:
        """For the slider."""
        if self.file is None:
            return "initial network"
        return self.file.name if self.iteration is None else f"iteration {self.iteration:,}"


@dataclass(frozen=True)
class Source:
    """cfg: of the network · steps: by iteration"""

    cfg: CfgNode
    steps: list[Step]


def find_source(
    weights: str,
    config_file: str,
    overrides: Sequence[str],
    *,
    allow_code: bool = False,
    most: int = 6,
) -> Source:
    """The configuration, and the steps that are shown.

    Args:
        weights: a run's folder, whose checkpoints are the steps, with the initial network before
            them; a file, which is the only one; or "", the initial network alone.
        config_file: "": the configuration that a checkpoint holds, or that is beside it.
        most: steps of a run; the first and the last are among them.

    Raises:
        UserError: there are no such weights, or no configuration.
    """
    code = {"allow_code": allow_code}
    if config_file:
        cfg = load_config(config_file, overrides, **code)
    elif weights:
        cfg = recorded_config(weights, overrides, **code)
    else:
        raise UserError("whose rules? Give --weights RUN_OR_FILE, or --config-file FILE")
    place = Path(weights).expanduser()
    if not weights or not place.is_dir():
        return Source(cfg, [_of_file(place, weights) if weights else Step(None, None)])
    found = [(i, p) for i, p in by_iteration(place.glob("model_*.pth")) if i is not None]
    if not found:
        raise UserError(f"--weights {weights}: the folder has no checkpoint model_*.pth to be read")
    by_number = {number: Step(path, number) for number, path in reversed(found)}
    steps = [Step(None, 0), *by_number.values()]
    return Source(cfg, _spread(steps, most))


def _of_file(place: Path, weights: str) -> Step:
    if "://" in weights:
        return Step(Path(weights), None)
    return Step(place, by_iteration([place])[0][0])


def _spread(steps: list[Step], most: int) -> list[Step]:
    """`most` of them at equal distances, the first and the last included."""
    if len(steps) <= most:
        return steps
    places = [round(i * (len(steps) - 1) / max(most - 1, 1)) for i in range(most)]
    return [steps[place] for place in dict.fromkeys(places)] if most > 1 else steps[-1:]


def network(
    cfg: CfgNode, step: Step, class_names: Sequence[str], *, averaged: bool
) -> tuple[Detector, str]:
    """The detector of a step, in evaluation mode, and in words which weights it has.

    averaged: the average where a checkpoint has one; else what was trained, whose predictions the
    rule saw.
    """
    torch.manual_seed(cfg.SEED)  # the initial network is the run's own
    model = build_model(cfg, len(class_names)).eval()
    if isinstance(model.head, Dual):
        model.head.read = None  # the rules of both branches are shown
    if step.file is None:
        return model, _begin(cfg, model, class_names)
    path, what = str(step.file), ""
    if step.iteration is not None and TRAINED in load_checkpoint(step.file):
        what = "averaged weights" if averaged else "trained (raw) weights"
        path = path if averaged else f"{path}#{TRAINED}"
    report = load_weights(model, path, class_names=class_names, allow_new_classes=False)
    if any(name.startswith("head.") for name in report.initial):
        raise UserError(f"{path}: weights of a backbone only; give those of a whole detector")
    return model, f"{step.file.name}, {what}" if what else step.file.name


def _begin(cfg: CfgNode, model: Detector, class_names: Sequence[str]) -> str:
    """Loads what the training began with, and says what that is."""
    weight = cfg.MODEL.WEIGHT
    if not weight:
        return f"SEED {cfg.SEED}, nothing learnt"
    if "://" not in weight and not Path(weight).expanduser().is_file():
        return f"SEED {cfg.SEED}, without MODEL.WEIGHT, which is not there any more"
    load_weights(model, weight, class_names=class_names)
    return f"SEED {cfg.SEED}, from {weight}"
