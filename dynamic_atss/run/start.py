"""How a training or a test begins: checks, the processes, OUTPUT_DIR with its log and its lock, the
survey."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from yacs.config import CfgNode

from dynamic_atss import builders
from dynamic_atss.builders.survey import survey as look_over
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
    builders.check_config(cfg)
    torch.manual_seed(cfg.SEED)
    return distributed.init_distributed(cfg.MODEL.DEVICE, cfg.SOLVER.TIMEOUT)


def open_folder(output: Path) -> None:
    """Makes OUTPUT_DIR where it is missing; the log goes to its `log.txt` from now on.

    Raises:
        UserError: it cannot be made or written.
    """
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
    """OUTPUT_DIR is this run's alone inside. Raises UserError: it is another's."""
    lock = Lock(output)
    try:
        distributed.on_first(lock.take)
        yield
    finally:
        lock.release()


def goes_on(checkpoints: Checkpointer) -> bool:
    """Whether the run is this launcher's, which has started the processes anew: --resume need not
    be typed then. A folder without a run is this launcher's from now on."""

    def look() -> bool:
        if launch.began(checkpoints.folder):
            logger.info("started anew by the launcher that began the run: it goes on")
            return True
        if not checkpoints.holds_run():
            launch.sign(checkpoints.folder)
        return False

    return distributed.on_first(look)


def refuse_to_overwrite(checkpoints: Checkpointer) -> None:
    """Raises UserError: OUTPUT_DIR holds a run, of which rank 0 knows."""

    def refuse() -> None:
        if checkpoints.holds_run():
            raise UserError(
                f"OUTPUT_DIR {checkpoints.folder} already holds a run: add --resume to go on with "
                "it, or choose another OUTPUT_DIR"
            )

    distributed.on_first(refuse)


def tell_unused(cfg: CfgNode) -> None:
    """A line of the log for the keys that are accepted without effect."""
    unused = keys_without_effect(cfg)
    if unused:
        logger.info("Accepted without effect (keys of two-stage models): %s", ", ".join(unused))
    if "PATHS_CATALOG" in unused:
        logger.warning("PATHS_CATALOG: its code is not read; an entry of it is %s", FROM_CATALOG)


def survey(cfg: CfgNode, train: TrainingSet | None, loaders: dict[str, Loader]) -> None:
    """By rank 0, while the others wait."""
    tests = [loader.dataset for loader in loaders.values()]
    distributed.on_first(lambda: look_over(cfg, train, tests))
