"""Chooses whose predictions are shown: a run's checkpoints, one file, or the initial network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss.builders import build_model
from dynamic_atss.config.code import refuse_code
from dynamic_atss.config.load import load_config
from dynamic_atss.engine.checkpoint import load_checkpoint
from dynamic_atss.engine.newest_checkpoint import by_iteration
from dynamic_atss.errors import UserError
from dynamic_atss.inference.restore import recorded_config
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.dual import Dual
from dynamic_atss.weights import load_weights

# The weights that the rule saw in training, in a checkpoint that also holds averaged weights.
TRAINED = "trained_model"


@dataclass(frozen=True)
class Step:
    """Describes the weights at one iteration.

    Attributes:
        file: their file; None: the weights that training begins with.
        iteration: the iteration; None: unknown.
    """

    file: Path | None
    iteration: int | None

    @property
    def name(self) -> str:
        """Gives the label of the page's slider."""
        if self.file is None:
            return "initial network"
        return self.file.name if self.iteration is None else f"iteration {self.iteration:,}"


@dataclass(frozen=True)
class Source:
    """Holds the network's configuration, and its steps by iteration."""

    cfg: CfgNode
    steps: list[Step]


def find_source(
    weights: str,
    config_file: str,
    overrides: Sequence[str],
    *,
    allow_code: bool = False,
    rules: Sequence[str] = (),
    most: int = 6,
) -> Source:
    """Finds the configuration and the steps to show.

    Args:
        weights: a run's folder gives the initial network and its checkpoints. A file gives that
            one step. "" gives the initial network only.
        config_file: the configuration; "": that in the checkpoint or in its folder.
        rules: names of rules that the user gave. The configuration may name their code, too.
        most: the largest number of steps. The first and the last are always among them.

    Raises:
        UserError: the weights or the configuration do not exist, or only the configuration names
            some code.
    """
    if config_file:
        cfg = load_config(config_file, overrides, allow_code=True)  # runs no code yet
    elif weights:
        cfg = recorded_config(weights, overrides, allow_code=True)
    else:
        raise UserError("no network is named: add --weights RUN_OR_FILE or --config-file FILE")
    if not allow_code:
        refuse_code(cfg, {*overrides[::2]}, config_file or weights, trusted=rules)
    place = Path(weights).expanduser()
    if not weights or not place.is_dir():
        return Source(cfg, [_of_file(place, weights) if weights else Step(None, None)])
    found = [(i, p) for i, p in by_iteration(place.glob("model_*.pth")) if i is not None]
    if not found:
        raise UserError(
            f"--weights {weights}: the folder has no checkpoint model_*.pth; give a run's folder "
            "that has one"
        )
    by_number = {number: Step(path, number) for number, path in reversed(found)}
    steps = [Step(None, 0), *by_number.values()]
    return Source(cfg, _spread(steps, most))


def _of_file(place: Path, weights: str) -> Step:
    if "://" in weights:
        return Step(Path(weights), None)
    return Step(place, by_iteration([place])[0][0])


def _spread(steps: list[Step], most: int) -> list[Step]:
    """Picks `most` steps at equal distances, the first and the last included."""
    if len(steps) <= most:
        return steps
    places = [round(i * (len(steps) - 1) / max(most - 1, 1)) for i in range(most)]
    return [steps[place] for place in dict.fromkeys(places)] if most > 1 else steps[-1:]


def network(
    cfg: CfgNode, step: Step, class_names: Sequence[str], *, averaged: bool
) -> tuple[Detector, str]:
    """Builds the detector of a step in evaluation mode, and describes its weights.

    Args:
        averaged: True loads the averaged weights of a checkpoint that has them. False loads the
            trained weights that the rule saw.

    Raises:
        UserError: the file holds only a backbone.
    """
    torch.manual_seed(cfg.SEED)  # gives the initial weights of the run
    model = build_model(cfg, len(class_names)).eval()
    if isinstance(model.head, Dual):
        model.head.read = None  # outputs both branches, because the rules of both are shown
    if step.file is None:
        return model, _begin(cfg, model, class_names)
    path, kind = str(step.file), ""
    if step.iteration is not None and TRAINED in load_checkpoint(step.file):
        kind = "averaged weights" if averaged else "trained (raw) weights"
        path = path if averaged else f"{path}#{TRAINED}"
    report = load_weights(model, path, class_names=class_names, allow_new_classes=False)
    if any(name.startswith("head.") for name in report.initial):
        raise UserError(f"{path}: holds a backbone only; give the weights of a complete detector")
    return model, f"{step.file.name}, {kind}" if kind else step.file.name


def _begin(cfg: CfgNode, model: Detector, class_names: Sequence[str]) -> str:
    """Loads the weights that training began with, and describes them."""
    weight = cfg.MODEL.WEIGHT
    if not weight:
        return f"SEED {cfg.SEED}, nothing learnt"
    if "://" not in weight and not Path(weight).expanduser().is_file():
        return f"SEED {cfg.SEED}, without MODEL.WEIGHT, whose file no longer exists"
    load_weights(model, weight, class_names=class_names)
    return f"SEED {cfg.SEED}, from {weight}"
