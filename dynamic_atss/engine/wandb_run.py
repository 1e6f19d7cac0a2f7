"""Logs a run to Weights & Biases. Only this file imports the package `wandb`."""

from __future__ import annotations

import importlib.util
import logging
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dynamic_atss.errors import UserError
from dynamic_atss.files import write_text

_log = logging.getLogger(__name__)

_OF_TESTS = ("eval", "pictures")  # beginnings of the tags of a test's numbers and pictures
TESTED = "tested_iteration"  # the axis of these numbers

ID_FILE = "wandb_id"  # in OUTPUT_DIR: lets a resumed run continue the same run there


def check_wandb(project: str) -> None:
    """Raises UserError if a project is named, but the package is missing."""
    installed = "wandb" in sys.modules or importlib.util.find_spec("wandb") is not None
    if project and not installed:
        raise UserError(
            f"WANDB.PROJECT {project!r}: needs a package that is missing: pip install "
            "'dynamic_atss[wandb]' (or set WANDB.PROJECT '')"
        )


class WandbRun:
    """Shows numbers on Weights & Biases as a `Board`. Its step is the iteration.

    Its entries cannot be changed, and its step only grows. When a run goes back, entries of
    iterations that it has already are not added again. The scores of a test may be known only some
    iterations later, so they have an axis of their own. A test that is repeated is added again.
    """

    open = True

    def __init__(self, folder: Path, project: str, name: str = "") -> None:
        """Starts or continues the run.

        Args:
            folder: OUTPUT_DIR; its last part is the name if none is given.

        Raises:
            UserError: the run cannot be started, for example without a login.
        """
        import wandb

        self._wandb = wandb
        path = folder / ID_FILE
        run_id = path.read_text().strip() if path.is_file() else None
        try:
            self._run = wandb.init(
                project=project,
                name=name or folder.resolve().name,
                id=run_id,
                resume="allow" if run_id else None,
                dir=str(folder),
                settings=wandb.Settings(console="off"),  # log.txt has it
            )
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"WANDB.PROJECT {project!r}: {reason}; run `wandb login`, or set WANDB_MODE=offline"
            ) from None
        write_text(path, self._run.id)
        self._run.define_metric("eval*", step_metric=TESTED)
        self._first = self._run.step  # 0, or the step after those of an interrupted run
        self._newest = self._first
        _log.info("Weights & Biases: %s", self._run.url or f"offline, in {self._run.dir}")

    def add_scalar(self, tag: str, value: float, iteration: int) -> None:
        self._add(iteration, {tag: value})

    def add_text(self, tag: str, text: str, iteration: int) -> None:
        self._run.summary[tag] = textwrap.dedent(text)

    def add_picture(self, tag: str, picture: Tensor, iteration: int) -> None:
        """Adds a picture (3, H, W) uint8."""
        image = self._wandb.Image(picture.permute(1, 2, 0).numpy(), file_type="jpg")
        self._add(iteration, {tag: image})

    def add_hyperparameters(self, values: Mapping[str, Any], shown: Iterable[str]) -> None:
        """Adds hyperparameters.

        Args:
            shown: names of scalars, which are not needed here.
        """
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self) -> None:
        """Ends the run. A second call does nothing."""
        if self.open:
            self._run.finish()
        self.open = False

    def _add(self, iteration: int, values: Mapping[str, Any]) -> None:
        step, of_test = iteration, any(tag.startswith(_OF_TESTS) for tag in values)
        if not self.open or (iteration < self._first and not of_test):
            return
        if of_test:
            values, step = {**values, TESTED: iteration}, max(iteration, self._newest)
        self._newest = max(step, self._newest)
        self._run.log(dict(values), step=step)
