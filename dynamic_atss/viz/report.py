"""Plots the losses of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dynamic_atss.errors import UserError
from dynamic_atss.files import read_metrics, write_atomically

_log = logging.getLogger(__name__)

_INK = "#333333"


def plot_run(folder: str | Path) -> None:
    """Writes `losses.png` into a run's folder if there is a training record.

    Logs a warning if the file cannot be written, because the run must not fail for it.
    """
    metrics = Path(folder) / "metrics.jsonl"
    if not any("loss" in record for record in read_metrics(metrics)):
        return
    try:
        plot_losses(metrics, Path(folder) / "losses.png")
    except UserError as error:
        _log.warning("%s", error)


def plot_losses(metrics: str | Path, output: str | Path) -> None:
    """Plots the loss terms and the learning rate of a `metrics.jsonl` by iteration as PNG.

    Draws the losses as logged and smoothed. Writes the file completely or not at all.

    Raises:
        UserError: if the file is missing or holds no training record.
    """
    records = [record for record in read_metrics(metrics) if "loss" in record]
    if not records:
        raise UserError(f"{metrics}: no training record to plot; give a run's metrics.jsonl")
    iterations = np.array([record["iteration"] for record in records])
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    losses, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    for i, name in enumerate(_loss_names(records)):
        _curve(losses, iterations, _column(records, name), name, f"C{i}")
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0, top=_top(records))
    losses.legend(frameon=False, ncols=2)
    rate.plot(iterations, _column(records, "lr"), color=_INK, linewidth=1.5)
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    rate.set_xlabel("iteration")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, rate):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.margins(x=0.01)
    write_atomically(output, lambda file: figure.savefig(file, format="png", dpi=130))


def _loss_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns "loss", then its terms in the order of the file."""
    names = dict.fromkeys(name for record in records for name in record)
    return ["loss", *(n for n in names if n.rpartition("/")[2].startswith("loss_"))]


def _column(records: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """Returns the values by record. A missing or infinite value is NaN, a gap in the curve."""
    return np.array([_float(record.get(name)) for record in records], np.float64)


def _float(value: object) -> float:
    """Converts a value to float. Returns NaN if it is not a number, or too large."""
    try:
        return float(value) if isinstance(value, int | float) else np.nan
    except OverflowError:
        return np.nan


def _top(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns an upper limit of the axis that cuts off single spikes."""
    values = _column(records, "loss")
    values = values[np.isfinite(values)]
    return 1.15 * float(np.percentile(values, 99)) or None if values.size else None


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Computes the centred mean over `window` records. Leaves out missing values and gaps."""
    known = np.isfinite(values)
    kernel = np.ones(window)
    weight = np.convolve(known, kernel, "same")
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")
    return np.where(known, total / np.maximum(weight, 1), np.nan)


def _curve(
    axes: Axes,
    iterations: NDArray[np.int64],
    values: NDArray[np.float64],
    name: str,
    color: str,
) -> None:
    """Draws the logged values as a thin line and the smoothed values as a thick line.

    Few records are not smoothed.
    """
    window = len(values) // 25 | 1
    color = _INK if name == "loss" else color
    if window > 1:
        axes.plot(iterations, values, color=color, linewidth=0.7, alpha=0.3)
    axes.plot(iterations, smooth(values, window), color=color, linewidth=1.8, label=name)
