"""Reads the folder of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_atss.builders import build_head
from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.load import load_config
from dynamic_atss.config.record import NAME as CONFIG
from dynamic_atss.config.record import leaves
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import METRICS, UNDEFINED
from dynamic_atss.files import METRICS_FILE, read_metrics
from dynamic_atss.reading import YAML_BYTES, read_text
from dynamic_atss.suggest import hint

RULE = "MODEL.ASSIGNER.NAME"


class Run(NamedTuple):
    """Describes a finished run.

    Attributes:
        folder: the folder of the run.
        settings: the values of config.yaml by full key name. Keys that the run's version did not
            have take their defaults. An empty MODEL.ASSIGNER.NAME is replaced by the head's rule.
        lines: the training lines of metrics.jsonl.
        test_set: the folder name of the first of DATASETS.TEST.
        scores: COCO's numbers on the test set, without undefined ones.
    """

    folder: Path
    settings: dict[str, Any]
    lines: list[dict[str, Any]]
    test_set: str
    scores: dict[str, float]

    @property
    def seed(self) -> int:
        return int(self.settings["SEED"])

    @property
    def results(self) -> Path:
        """Names the file of its detections in COCO's format."""
        return self.folder / "inference" / self.test_set / "bbox.json"


def read_run(folder: Path) -> Run:
    """Reads a run.

    Raises:
        UserError: the run does not exist or is not complete.
    """
    settings = _settings(folder)
    records = read_metrics(folder / METRICS_FILE)
    test_set = next((str(r["dataset"]) for r in records if "dataset" in r), "")
    path = folder / "inference" / test_set / "coco_metrics.json"
    if not test_set or not path.is_file() or not (folder / "model_final.pth").is_file():
        raise UserError(
            f"{folder}: training or test is not complete; resume it "
            f"(train --config-file {folder / CONFIG} --resume), or leave it out"
        )
    lines = [record for record in records if "loss" in record]
    return Run(folder, settings, lines, test_set, _scores(path))


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        reason = "holds no run (no config.yaml)" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder}: {reason}; give the OUTPUT_DIR of a run{_nearest(folder)}")
    try:
        found = leaves(read_text(path, YAML_BYTES))
        int(found["SEED"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: is not the configuration of a run ({error}); give the OUTPUT_DIR of a run"
        ) from None
    found = leaves(default_config().dump()) | found
    found[RULE] = found[RULE] or _default_rule(path)
    return found


def _default_rule(config: Path) -> str:
    """Gives the default rule of the run's head; "" if the head is custom code."""
    try:
        return build_head(load_config(config)).default_rule()
    except UserError:
        return ""


def _nearest(folder: Path) -> str:
    """Suggests a run next to a folder that holds none."""
    try:
        known = [p.name for p in folder.parent.iterdir() if (p / CONFIG).is_file()]
    except OSError:
        return ""
    return hint(folder.name, known, f"; the nearest is {folder.parent}/{{}}")


def _scores(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes())
        return {m: float(found[m]) for m in METRICS if found[m] != UNDEFINED}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: does not hold COCO's scores ({error!r}); test the run again"
        ) from None
