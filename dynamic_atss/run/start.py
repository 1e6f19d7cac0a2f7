"""Starts a training or a test: checks, process group, OUTPUT_DIR with log and lock, survey."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.builders.survey import survey as survey_data
from dynamic_atss.config.load import keys_without_effect
from dynamic_atss.data.catalog import FROM_CATALOG
from dynamic_atss.data.loader import Loader
from dynamic_atss.data.training_set import TrainingSet
from dynamic_atss.engine import distributed, launch
from dynamic_atss.engine.checkpoint import Checkpointer
from dynamic_atss.engine.lock import Lock
from dynamic_atss.engine.logger import setup_logging
from dynamic_atss.errors import UserError

logger = logging.getLogger(__name__)


def begin(cfg: CfgNode) -> torch.device:
    """Checks the configuration, sets the seed, joins the process group and gives the device."""
    builders.check_config(cfg)
    torch.manual_seed(cfg.SEED)
    return distributed.init_distributed(cfg.MODEL.DEVICE, cfg.SOLVER.TIMEOUT)


@contextlib.contextmanager
def opened_folder(output: Path) -> Iterator[None]:
    """Makes OUTPUT_DIR if needed, and sends the log to its `log.txt`.

    If a mistake of the user ends the block before a file is written, removes the new folder again.

    Raises:
        UserError: the folder cannot be made or written.
    """
    existed = os.path.lexists(output)
    _open_folder(output)
    try:
        yield
    except UserError:
        if not existed:
            with contextlib.suppress(OSError):  # it is not empty
                output.rmdir()
        raise


def _open_folder(output: Path) -> None:
    try:
        str(output).encode()  # TensorBoard needs it, and so do YAML and JSON
        output.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError:
        raise UserError(f"OUTPUT_DIR {str(output)!a}: is not UTF-8; choose another name") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"OUTPUT_DIR {output}: cannot be made ({reason}); choose another folder"
        ) from None
    if not os.access(output, os.W_OK):
        raise UserError(f"OUTPUT_DIR {output}: cannot be written; choose another folder")
    setup_logging(output, distributed.rank())


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Locks OUTPUT_DIR for this run during the block. Raises UserError if another run holds it."""
    lock = Lock(output)
    try:
        distributed.on_rank_0(lock.take)
        yield
    finally:
        lock.release()


def restarted(checkpoints: Checkpointer) -> bool:
    """Returns True if the launcher that began this run has restarted it, so that it resumes.

    Marks a folder without a run as begun by this launcher.
    """

    def check() -> bool:
        if launch.began(checkpoints.folder):
            logger.info("restarted by the launcher that began the run: it resumes")
            return True
        if not checkpoints.holds_run():
            launch.sign(checkpoints.folder)
        return False

    return distributed.on_rank_0(check)


def refuse_to_overwrite(checkpoints: Checkpointer) -> None:
    """Raises UserError if OUTPUT_DIR holds a run, as rank 0 sees it."""

    def refuse() -> None:
        if checkpoints.holds_run():
            raise UserError(
                f"OUTPUT_DIR {checkpoints.folder} already holds a run: add --resume to continue "
                "it, or choose another OUTPUT_DIR"
            )

    distributed.on_rank_0(refuse)


def log_unused_keys(cfg: CfgNode) -> None:
    """Logs the keys that are accepted without effect."""
    unused = keys_without_effect(cfg)
    if unused:
        logger.info("Accepted without effect (keys of two-stage models): %s", ", ".join(unused))
    if "PATHS_CATALOG" in unused:
        logger.warning("PATHS_CATALOG: its code is not read; write an entry as %s", FROM_CATALOG)


def survey(cfg: CfgNode, train: TrainingSet | None, loaders: dict[str, Loader]) -> None:
    """Checks the data sets on rank 0, while the other ranks wait."""
    tests = [loader.dataset for loader in loaders.values()]
    distributed.on_rank_0(lambda: survey_data(cfg, train, tests))
