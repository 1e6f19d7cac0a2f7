"""What a run measures: `metrics.jsonl` and TensorBoard events."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.files import METRICS_FILE, read_metrics, write_text

_log = logging.getLogger(__name__)


class MetricsWriter:
    """Appends records to `output_dir/metrics.jsonl` and to TensorBoard events beside it.

    One line per record, written through at once: a killed run loses half a line at most. Of a
    file that is there already, the records after `start_iteration` are dropped first, and the tests
    at it, as the resumed run writes them again. To be made on rank 0 only.
    """

    def __init__(
        self, output_dir: str | Path, start_iteration: int = 0, *, tensorboard: bool = True
    ) -> None:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS_FILE
        _drop_after(path, start_iteration)
        self._file = path.open("a", encoding="utf-8")
        self._events = _event_writer(folder, start_iteration) if tensorboard else None

    def write(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Record numbers by name: `loss`, each loss term, each metric, `lr`, `time`, `data_time`,
        `max_mem_mb`.

        Values are numbers, tensors of one element (which waits for their device), or strings.
        """
        self._append({"iteration": iteration, **{k: _plain(v) for k, v in values.items()}})
        self._draw(iteration, values, "train")

    def write_evaluation(self, iteration: int, dataset: str, scores: CocoScores) -> None:
        """Record the numbers of one data set (its name under `dataset`)."""
        self._append({"iteration": iteration, "dataset": dataset, **scores.numbers})
        self._draw(iteration, scores.numbers, f"eval/{dataset}")

    def close(self) -> None:
        """Close the file and the events; a second call does nothing."""
        self._file.close()
        if self._events is not None:
            self._events.close()

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
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def _draw(self, iteration: int, values: Mapping[str, Any], group: str) -> None:
        if self._events is None:
            return
        for name, value in values.items():
            if not isinstance(value, str):
                self._events.add_scalar(f"{group}/{name}", float(value), iteration)


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


def _event_writer(folder: Path, start_iteration: int) -> Any:
    """TensorBoard's writer, or None with a line in the log where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.info("tensorboard is not installed: no event files, metrics.jsonl has the numbers")
        return None
    # purge_step hides what the interrupted run wrote after its last checkpoint.
    purge_step = start_iteration + 1 if start_iteration else None
    return SummaryWriter(str(folder), purge_step=purge_step)
