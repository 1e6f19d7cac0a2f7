"""Writes the numbers of a run to `metrics.jsonl`, TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import logging
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from torch import Tensor

from dynamic_atss.engine.events import Events
from dynamic_atss.engine.log_lines import is_loss
from dynamic_atss.engine.per_box import per_box
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import UNDEFINED, CocoScores
from dynamic_atss.files import METRICS_FILE, read_metrics, write_text

_log = logging.getLogger(__name__)

_SPEED = ("time", "data_time", "max_mem_mb")


class Board(Protocol):
    """Shows the numbers of a run as curves. `Events` and `WandbRun` are boards."""

    @property
    def open(self) -> bool:
        """Returns True if the board accepts entries. Otherwise they are dropped."""

    def add_scalar(self, tag: str, value: float, iteration: int) -> None: ...

    def add_text(self, tag: str, text: str, iteration: int) -> None: ...

    def add_picture(self, tag: str, picture: Tensor, iteration: int) -> None: ...

    def add_hyperparameters(self, values: Mapping[str, Any], shown: Iterable[str]) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """Appends records to `output_dir/metrics.jsonl`, and shows them on boards. Use it on rank 0.

    Each record is a line that is flushed at once, so that a killed run loses at most part of a
    line. From an existing file, drops the records after `start_iteration` and the tests at it,
    because the resumed run writes them again.

    Args:
        tensorboard: True writes TensorBoard's event files to the same folder.
        boards: further boards. They stay open when the run goes back to an earlier iteration.
    """

    def __init__(
        self,
        output_dir: str | Path,
        start_iteration: int = 0,
        *,
        tensorboard: bool = True,
        boards: Sequence[Board] = (),
    ) -> None:
        self._folder, self._tensorboard = Path(output_dir), tensorboard
        self._other_boards = boards
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open(start_iteration)

    def _open(self, start: int) -> None:
        path = self._folder / METRICS_FILE
        _drop_after(path, start)
        self._start = start
        self._lines = _Lines(path)
        self._events = [Events(self._folder, start)] if self._tensorboard else []

    @property
    def _boards(self) -> list[Board]:
        return [*self._events, *self._other_boards]

    def rewind(self, iteration: int) -> None:
        """Drops the records after `iteration`, from which the run continues."""
        self._close_files()
        self._open(iteration)

    def write(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Records numbers by name.

        The names are `loss`, each loss term, each metric, `lr`, `time`, `data_time` and
        `max_mem_mb`.

        Args:
            values: numbers, strings, or tensors of one element, whose device this waits for.
        """
        self._append({"iteration": iteration, **{k: _plain(v) for k, v in values.items()}})
        for name, value in values.items():
            self._draw(iteration, f"{_group(name)}/{name}", value)
        for name, value in per_box(values).items():
            self._draw(iteration, f"assignment/{name}", value)

    def write_evaluation(self, iteration: int, dataset: str, scores: CocoScores) -> None:
        """Records the scores of a data set. The boards also get the AP of each class."""
        self._append({"iteration": iteration, "dataset": dataset, **scores.numbers})
        for name, value in scores.numbers.items():
            self._draw(iteration, f"eval/{dataset}/{name}", value)
        for name, value in scores.per_category.items():
            self._draw(iteration, f"eval_AP_by_class/{dataset}/{name}", value)

    @property
    def draws(self) -> bool:
        """Returns True if a board accepts pictures."""
        return any(board.open for board in self._boards)

    def write_run(
        self, text: str, config: str, hyperparameters: Mapping[str, Any], test_sets: Iterable[str]
    ) -> None:
        """Shows the description, config.yaml and hyperparameters of the run on the boards.

        The hyperparameters appear together with the loss and the AP of each test set.
        """
        shown = ["train/loss", *(f"eval/{name}/AP" for name in test_sets)]
        for board in self._boards:
            for name, content in (("run", text), ("config", config)):
                # The texts are indented, because Markdown then keeps the line breaks.
                board.add_text(name, textwrap.indent(content, "    "), self._start)
            board.add_hyperparameters(hyperparameters, shown)

    def write_pictures(self, iteration: int, group: str, pictures: Mapping[str, Tensor]) -> None:
        """Shows pictures (3, H, W) uint8 by name on the boards.

        Args:
            group: the first part of their tags.
        """
        for board in self._boards:
            for name, picture in pictures.items():
                board.add_picture(f"{group}/{name}", picture, iteration)

    def close(self) -> None:
        """Closes the file and the boards. A second call does nothing."""
        self._close_files()
        for board in self._other_boards:
            board.close()

    def _close_files(self) -> None:
        self._lines.close()
        for events in self._events:
            events.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, record: Mapping[str, Any]) -> None:
        self._lines.add(json.dumps(record, allow_nan=False))

    def _draw(self, iteration: int, tag: str, value: Any) -> None:
        if isinstance(value, str):
            return
        if tag.startswith("eval") and value == UNDEFINED:  # -1 is no point of the curve
            return
        for board in self._boards:
            board.add_scalar(tag, float(value), iteration)


class _Lines:
    """Appends lines to a file, and flushes each at once.

    Logs only the first failed write, such as to a full disk, and lets the training continue. Lines
    that could not be written follow with a later line, if there is space again.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            UserError: it cannot be opened.
        """
        self._path, self._warned = path, False
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{path}: cannot be opened ({error.strerror}): choose another OUTPUT_DIR"
            ) from error

    def add(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._warn(error)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            _log.warning(
                "%s: lines are lost (%s); the training continues", self._path, error.strerror
            )
        self._warned = True


def _group(name: str) -> str:
    """Gives the section of the boards in which a number is shown."""
    if name in _SPEED:
        return "speed"
    return "train" if name == "lr" or is_loss(name) else "metrics"


def _plain(value: Any) -> Any:
    """Converts a value for JSON: NaN and infinities become None (null)."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _drop_after(path: Path, iteration: int) -> None:
    """Rewrites the file without records after `iteration` and without the tests at it."""
    if not path.is_file():
        return
    kept = [r for r in read_metrics(path) if r["iteration"] < iteration + ("dataset" not in r)]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
