"""Writes reports on the results of a test, for the options --report and --report-only."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError
from dynamic_atss.run.start import opened_folder


def report(cfg: CfgNode) -> int:
    """Reports on the results of an earlier test in OUTPUT_DIR, for each set of DATASETS.TEST.

    Returns:
        the exit code.

    Raises:
        UserError: a mistake that the user can correct.
    """
    check_possible()
    builders.check_config(cfg)
    distributed.init_distributed("cpu", cfg.SOLVER.TIMEOUT)
    output = Path(cfg.OUTPUT_DIR)
    if not output.is_dir():
        raise UserError(f"OUTPUT_DIR {output}: is no folder: name the folder of the tested run")
    with opened_folder(output):
        write_reports(cfg, build_loaders(cfg))
    distributed.shut_down()
    return 0


def build_loaders(cfg: CfgNode) -> dict[str, Loader]:
    """Opens each set of DATASETS.TEST. Raises UserError if there is none."""
    loaders = builders.build_test_loaders(cfg)
    if not loaders:
        raise UserError("DATASETS.TEST is empty; add DATASETS.TEST \"('name',)\"")
    return loaders


def write_reports(cfg: CfgNode, loaders: dict[str, Loader]) -> None:
    """Writes a report next to the results of each data set, on rank 0; the other ranks wait."""
    from dynamic_atss.reports.write import write_report  # imports matplotlib

    folder = Path(cfg.OUTPUT_DIR) / "inference"
    max_dets = cfg.TEST.DETECTIONS_PER_IMG
    for name, loader in loaders.items():
        write = partial(write_report, loader.dataset, folder / name, name, max_dets)
        distributed.on_rank_0(write)


def check_possible() -> None:
    """Raises UserError if a package that reports need is not installed."""
    if importlib.util.find_spec("hotcoco") is None:
        raise UserError("--report needs a package that is missing: pip install 'hotcoco>=1.2'")
