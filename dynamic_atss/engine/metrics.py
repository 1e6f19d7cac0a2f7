"""What a run measures: `metrics.jsonl`, and boards that show it: TensorBoard, Weights & Biases."""

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
from dynamic_atss.engine.lines import is_loss
from dynamic_atss.engine.panels import per_box
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import UNDEFINED, CocoScores
from dynamic_atss.files import METRICS_FILE, read_metrics, write_text

_log = logging.getLogger(__name__)

_SPEED = ("time", "data_time", "max_mem_mb")


class Board(Protocol):
    """What shows the numbers of a run as curves. `Events` and `WandbRun` are such."""

    @property
    def open(self) -> bool:
        """Whether it shows anything: else what is to be added is lost."""

    def add_scalar(self, tag: str, value: float, iteration: int) -> None: ...

    def add_text(self, tag: str, text: str, iteration: int) -> None: ...

    def add_picture(self, tag: str, picture: Tensor, iteration: int) -> None: ...

    def add_hyperparameters(self, values: Mapping[str, Any], shown: Iterable[str]) -> None: ...

    def close(self) -> None: ...


class MetricsWriter:
    """Appends records to `output_dir/metrics.jsonl`, and shows them on boards: TensorBoard events
    beside it, and `more`, which stay open when the run goes back to an earlier iteration.

    One line per record, written through at once: a killed run loses half a line at most. Of a
    file that is there already, the records after `start_iteration` are dropped first, and the tests
    at it, as the resumed run writes them again. To be made on rank 0 only.
    """

    def __init__(
        self,
        output_dir: str | Path,
        start_iteration: int = 0,
        *,
        tensorboard: bool = True,
        more: Sequence[Board] = (),
    ) -> None:
        self._folder, self._tensorboard, self._more = Path(output_dir), tensorboard, more
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
        return [*self._events, *self._more]

    def rewind(self, iteration: int) -> None:
        """The run goes on from that iteration: as a writer that is made for it."""
        self._close_files()
        self._open(iteration)

    def write(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Record numbers by name: `loss`, each loss term, each metric, `lr`, `time`, `data_time`,
        `max_mem_mb`.

        Values are numbers, tensors of one element (which waits for their device), or strings.
        """
        self._append({"iteration": iteration, **{k: _plain(v) for k, v in values.items()}})
        for name, value in values.items():
            self._draw(iteration, f"{_group(name)}/{name}", value)
        for name, value in per_box(values).items():
            self._draw(iteration, f"assignment/{name}", value)

    def write_evaluation(self, iteration: int, dataset: str, scores: CocoScores) -> None:
        """Record the numbers of one data set (its name under `dataset`); the boards get the AP of
        each class, too."""
        self._append({"iteration": iteration, "dataset": dataset, **scores.numbers})
        for name, value in scores.numbers.items():
            self._draw(iteration, f"eval/{dataset}/{name}", value)
        for name, value in scores.per_category.items():
            self._draw(iteration, f"eval_AP_by_class/{dataset}/{name}", value)

    @property
    def draws(self) -> bool:
        """Whether there is a board to draw pictures for."""
        return any(board.open for board in self._boards)

    def write_run(
        self, text: str, config: str, hyperparameters: Mapping[str, Any], test_sets: Iterable[str]
    ) -> None:
        """What the boards show of the run: its description, config.yaml and hyperparameters,
        these beside the loss and the AP of each test set."""
        shown = ["train/loss", *(f"eval/{name}/AP" for name in test_sets)]
        for board in self._boards:
            for name, content in (("run", text), ("config", config)):
                # Indented: Markdown's form of a text that keeps its lines.
                board.add_text(name, textwrap.indent(content, "    "), self._start)
            board.add_hyperparameters(hyperparameters, shown)

    def write_pictures(self, iteration: int, group: str, pictures: Mapping[str, Tensor]) -> None:
        """Pictures (3, H, W) uint8 by name, for the boards. group: the first part of their tags"""
        for board in self._boards:
            for name, picture in pictures.items():
                board.add_picture(f"{group}/{name}", picture, iteration)

    def close(self) -> None:
        """Close the file and the boards; a second call does nothing."""
        self._close_files()
        for board in self._more:
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
        if tag.startswith("eval") and value == UNDEFINED:  # a point at -1 would bend the curve
            return
        for board in self._boards:
            board.add_scalar(tag, float(value), iteration)


class _Lines:
    """A file that grows by lines, each written through at once. A full disk is told once: the
    training is worth more than its log. What could not be written comes with a later line, if there
    is room again."""

    def __init__(self, path: Path) -> None:
        """Raises UserError: the file cannot be opened."""
        self._path, self._told = path, False
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be opened ({error.strerror})") from error

    def add(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._tell(error)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            _log.warning(
                "%s: lines are lost (%s); the training goes on", self._path, error.strerror
            )
        self._told = True


def _group(name: str) -> str:
    """The boards' section of a number of a line."""
    if name in _SPEED:
        return "speed"
    return "train" if name == "lr" or is_loss(name) else "metrics"


def _plain(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinities become None (null)."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _drop_after(path: Path, iteration: int) -> None:
    """Rewrite the file, at once or not at all, with the records up to an iteration's training."""
    if not path.is_file():
        return
    kept = [r for r in read_metrics(path) if r["iteration"] < iteration + ("dataset" not in r)]
    write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
