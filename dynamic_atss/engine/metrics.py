"""What a run measures: `metrics.jsonl` and TensorBoard events."""

from __future__ import annotations

import json
import logging
import math
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
from torch import Tensor

from dynamic_atss.engine.lines import is_loss
from dynamic_atss.evaluation.scores import UNDEFINED, CocoScores
from dynamic_atss.files import METRICS_FILE, read_metrics, write_text

_log = logging.getLogger(__name__)

_SPEED = ("time", "data_time", "max_mem_mb")


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
        self._start = start_iteration

    def write(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Record numbers by name: `loss`, each loss term, each metric, `lr`, `time`, `data_time`,
        `max_mem_mb`.

        Values are numbers, tensors of one element (which waits for their device), or strings.
        """
        self._append({"iteration": iteration, **{k: _plain(v) for k, v in values.items()}})
        for name, value in values.items():
            self._draw(iteration, f"{_group(name)}/{name}", value)

    def write_evaluation(self, iteration: int, dataset: str, scores: CocoScores) -> None:
        """Record the numbers of one data set (its name under `dataset`); TensorBoard gets the AP of
        each class, too."""
        self._append({"iteration": iteration, "dataset": dataset, **scores.numbers})
        for name, value in scores.numbers.items():
            self._draw(iteration, f"eval/{dataset}/{name}", value)
        for name, value in scores.per_category.items():
            self._draw(iteration, f"eval_AP_by_class/{dataset}/{name}", value)

    @property
    def draws(self) -> bool:
        """Whether there is a TensorBoard to draw pictures for."""
        return self._events is not None

    def write_run(
        self, text: str, config: str, hyperparameters: Mapping[str, Any], test_sets: Iterable[str]
    ) -> None:
        """What TensorBoard shows of the run: its description, config.yaml and hyperparameters,
        these beside the loss and the AP of each test set."""
        if self._events is None:
            return
        for name, content in (("run", text), ("config", config)):
            # Indented: Markdown's form of a text that keeps its lines.
            self._events.add_text(name, textwrap.indent(content, "    "), self._start)
        shown = ["train/loss", *(f"eval/{name}/AP" for name in test_sets)]
        _write_hyperparameters(self._events, hyperparameters, shown)

    def write_pictures(self, iteration: int, dataset: str, pictures: Mapping[str, Tensor]) -> None:
        """Pictures (3, H, W) uint8 by name, for TensorBoard."""
        if self._events is None:
            return
        for name, picture in pictures.items():
            _write_picture(self._events, f"pictures/{dataset}/{name}", picture, iteration)

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

    def _draw(self, iteration: int, tag: str, value: Any) -> None:
        if self._events is None or isinstance(value, str):
            return
        if tag.startswith("eval") and value == UNDEFINED:  # a point at -1 would bend the curve
            return
        self._events.add_scalar(tag, float(value), iteration)


def _group(name: str) -> str:
    """TensorBoard's section of a number of a line."""
    if name in _SPEED:
        return "speed"
    return "train" if name == "lr" or is_loss(name) else "metrics"


def _write_picture(events: Any, tag: str, picture: Tensor, iteration: int) -> None:
    """As JPEG: the PNG of `SummaryWriter.add_image` takes ten times as long, and twice the room."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    pixels = picture.permute(1, 2, 0).flip(2).contiguous().numpy()
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    height, width = pixels.shape[:2]
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=data.tobytes()
    )
    events.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), iteration)


def _write_hyperparameters(events: Any, values: Mapping[str, Any], shown: Iterable[str]) -> None:
    """For TensorBoard's HPARAMS page, with the scalars `shown`. `SummaryWriter.add_hparams` would
    open a folder of its own, where the page does not find the run's scalars."""
    from torch.utils.tensorboard.summary import hparams

    plain = {k: v if type(v) in (int, float, str) else str(v) for k, v in values.items()}
    experiment, session, _ = hparams(plain, dict.fromkeys(shown, 0.0))
    for summary in (experiment, session):
        events.file_writer.add_summary(summary)


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
