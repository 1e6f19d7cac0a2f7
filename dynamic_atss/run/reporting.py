"""Reports on the results of a test: what tools/test_net.py calls with --report-only."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.data.loader import Loader
from dynamic_atss.engine import distributed
from dynamic_atss.errors import UserError
from dynamic_atss.run.start import open_folder


def report(cfg: CfgNode) -> int:
    """Reports on what an earlier test left in OUTPUT_DIR for each of DATASETS.TEST; no model is
    needed.

    Returns:
        the exit code.

    Raises:
        UserError: for what the user can correct.
    """
    check_possible()
    builders.check_config(cfg)
    distributed.init_distributed("cpu", cfg.SOLVER.TIMEOUT)
    output = Path(cfg.OUTPUT_DIR)
    if not output.is_dir():
        raise UserError(f"OUTPUT_DIR {output}: is no folder of a run: name the one that was tested")
    open_folder(output)
    loaders = builders.build_test_loaders(cfg)
    if not loaders:
        raise UserError("DATASETS.TEST is empty; add DATASETS.TEST \"('name',)\"")
    write_reports(cfg, loaders)
    distributed.shut_down()
    return 0


def write_reports(cfg: CfgNode, loaders: dict[str, Loader]) -> None:
    """One of each data set, beside its results, by rank 0 while the others wait."""
    from dynamic_atss.reports.write import write_report  # imports matplotlib

    folder, most = Path(cfg.OUTPUT_DIR) / "inference", cfg.TEST.DETECTIONS_PER_IMG
    for name, loader in loaders.items():
        write = partial(write_report, loader.dataset, folder / name, name, most)
        distributed.on_first(write)


def check_possible() -> None:
    """Raises UserError: a package that reports need is not installed."""
    if importlib.util.find_spec("hotcoco") is None:
        raise UserError("--report needs a package that is missing: pip install 'hotcoco>=1.2'")
