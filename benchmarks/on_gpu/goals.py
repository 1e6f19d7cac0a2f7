"""Compares the measurements of a GPU with the goals of the project."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
# Images that a train step takes in a second. The last goals have the efficiency (36 % of the peak)
# of NVIDIA's RetinaNet in MLPerf v4.0: 1.21 TFLOP an image.
IMAGES = {"H100": (240.0, 281.0), "H200": (290.0,)}


@dataclass(frozen=True)
class Goal:
    """Describes a goal.

    Attributes:
        name: what is measured.
        wanted: the limit, in the unit of the measurement.
        most: True if the measurement may be at most `wanted`; False: at least.
        shown: format of both.
        measure: gives all measurements among the rows. The best of them counts if `best`, else the
            worst.
    """

    name: str
    wanted: float
    most: bool
    shown: str
    measure: Callable[[Sequence[Row]], list[float]]
    best: bool = False

    def measured(self, rows: Sequence[Row]) -> float | None:
        """Returns the measurement that counts; None if there is none."""
        found = self.measure(rows)
        if not found:
            return None
        return max(found) if self.most != self.best else min(found)

    def met(self, value: float) -> bool:
        return value <= self.wanted if self.most else value >= self.wanted


def goals(gpu: str) -> list[Goal]:
    """Returns the goals on a GPU of this name."""
    kind = re.search(r"\bH[12]00\b", gpu)
    return [
        *(
            Goal("train step, bfloat16, best form: images/s", n, False, "{:.0f}", _rate, best=True)
            for n in IMAGES.get(kind[0] if kind else "", ())
        ),
        Goal("copies to the device in a train step", 1, True, "{:.3g}", _in_step("to_device")),
        Goal("waits of the host in a train step", 1, True, "{:.3g}", _in_step("waits")),
        Goal(
            "share of a train step that is not convolution",
            *(0.1, True, "{:.1%}", _in_step("not_convolution")),
        ),
        Goal(
            "focal losses: share of the copy's bandwidth",
            0.7,
            False,
            "{:.0%}",
            _of("share_of_copy"),
        ),
        Goal("NMS: times as fast as torchvision's", 2, False, "{:.3g} x", _of("times_peer")),
    ]


def markdown(rows: Sequence[Row], gpu: str) -> str:
    """Makes the table of the goals that were measured; says how many were not."""
    asked = goals(gpu)
    known = [(goal, value) for goal in asked if (value := goal.measured(rows)) is not None]
    lines = ["## Goals"]
    if known:
        table = ["| goal | | measured | |", "|---|---:|---:|---|"]
        for goal, value in known:
            limit = f"{'at most' if goal.most else 'at least'} {goal.shown.format(goal.wanted)}"
            met = "met" if goal.met(value) else "not met"
            table.append(f"| {goal.name} | {limit} | {goal.shown.format(value)} | {met} |")
        lines.append("\n".join(table))
    if len(known) < len(asked):
        lines.append(f"Goals without a measurement: {len(asked) - len(known)} of {len(asked)}.")
    return "\n\n".join(lines)


def _rate(rows: Sequence[Row]) -> list[float]:
    steps = [r for r in rows if r["stage"] == "whole train step" and "bfloat16" in r["case"]]
    return _numbers(steps, "images_per_second")


def _in_step(key: str) -> Callable[[Sequence[Row]], list[float]]:
    return lambda rows: _numbers([r for r in rows if r["case"] == "train step"], key)


def _of(key: str) -> Callable[[Sequence[Row]], list[float]]:
    return lambda rows: _numbers(rows, key)


def _numbers(rows: Sequence[Row], key: str) -> list[float]:
    """Lists a number of the rows of a GPU that have it."""
    found = [row.get("numbers", {}).get(key) for row in rows if row["device"] == "cuda"]
    return [value for value in found if value is not None]
