"""A run on Weights & Biases (the package `wandb`, which is imported here alone)."""

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

ID_FILE = "wandb_id"  # of OUTPUT_DIR: by it a resumed run goes on there, too


def check_wandb(project: str) -> None:
    """Raises UserError: a project is named, and the package is missing."""
    known = "wandb" in sys.modules or importlib.util.find_spec("wandb") is not None
    if project and not known:
        raise UserError(
            f"WANDB.PROJECT {project!r}: needs a package that is missing: pip install "
            "'dynamic_atss[wandb]' (or set WANDB.PROJECT '')"
        )


class WandbRun:
    """What Weights & Biases show of a run, as a `Board`.

    Its step is the iteration. What it has of an iteration stays: a run that goes back writes the
    same again, or is shown from where it stopped on.
    """

    open = True

    def __init__(self, folder: Path, project: str, name: str = "") -> None:
        """folder: OUTPUT_DIR, whose last part is the name where none is given.

        Raises:
            UserError: the run cannot be begun, as without a login.
        """
        import wandb

        self._wandb = wandb
        path = folder / ID_FILE
        known = path.read_text().strip() if path.is_file() else None
        try:
            self._run = wandb.init(
                project=project,
                name=name or folder.resolve().name,
                id=known,
                resume="allow" if known else None,
                dir=str(folder),
                settings=wandb.Settings(console="off"),  # log.txt has it
            )
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"WANDB.PROJECT {project!r}: {reason}; `wandb login`, or WANDB_MODE=offline"
            ) from None
        write_text(path, self._run.id)
        self._first = self._run.step  # 0, or after what an interrupted run has written
        _log.info("Weights & Biases: %s", self._run.url or f"offline, in {self._run.dir}")

    def add_scalar(self, tag: str, value: float, iteration: int) -> None:
        self._add(iteration, {tag: value})

    def add_text(self, tag: str, text: str, iteration: int) -> None:
        self._run.summary[tag] = textwrap.dedent(text)

    def add_picture(self, tag: str, picture: Tensor, iteration: int) -> None:
        """picture: (3, H, W) uint8."""
        image = self._wandb.Image(picture.permute(1, 2, 0).numpy(), file_type="jpg")
        self._add(iteration, {tag: image})

    def add_hyperparameters(self, values: Mapping[str, Any], shown: Iterable[str]) -> None:
        """shown: names of scalars, of which nothing is needed here."""
        self._run.config.update(dict(values), allow_val_change=True)

    def close(self) -> None:
        """A second call does nothing."""
        if self.open:
            self._run.finish()
        self.open = False

    def _add(self, iteration: int, values: Mapping[str, Any]) -> None:
        if self.open and iteration >= self._first:
            self._run.log(dict(values), step=iteration)
