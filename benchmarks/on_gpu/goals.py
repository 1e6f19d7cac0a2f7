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
SCORED = 5000  # images of a test whose scores the training must not wait for


@dataclass(frozen=True)
class Goal:
    """Describes a goal.

    Attributes:
        name: what is measured.
        wanted: the limit, in the unit of the measurement.
        most: True if the measurement may be at most `wanted`; False: at least.
        shown: format of both.
        stage: the stage or stages that measure it.
        measure: gives all measurements among the rows. The best of them counts if `best`, else the
            worst.
    """

    name: str
    wanted: float
    most: bool
    shown: str
    stage: str
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

    def target(self) -> str:
        return f"{'at most' if self.most else 'at least'} {self.shown.format(self.wanted)}"


def goals(gpu: str) -> list[Goal]:
    """Returns the goals on a GPU of this name."""
    kind = re.search(r"\bH[12]00\b", gpu)
    name, forms = (
        "train step, bfloat16, best form: images/s",
        "detectors-bfloat16, detectors-compiled",
    )
    rates = IMAGES.get(kind[0] if kind else "", ())
    return [
        *(Goal(name, n, False, "{:.0f}", forms, _rate, best=True) for n in rates),
        Goal(
            *("copies to the device in a train step", 1, True, "{:.3g}"),
            *("stages", _in_step("to_device")),
        ),
        Goal(
            *("waits of the host in a train step", 1, True, "{:.3g}"),
            *("stages", _in_step("waits")),
        ),
        Goal(
            *("share of a train step that is not convolution", 0.1, True, "{:.1%}"),
            *("stages", _in_step("not_convolution")),
        ),
        Goal(
            *("focal losses: share of the copy's bandwidth", 0.7, False, "{:.0%}"),
            *("focal", _of("share_of_copy")),
        ),
        Goal(
            *("NMS: times as fast as torchvision's", 2, False, "{:.3g} x"),
            *("nms", _of("times_peer")),
        ),
        Goal(
            *("lost time of the training for the scores of 5,000 images (TEST.ASYNC)", 1, True),
            *("{:.2f} s", "scoring", _lost),
        ),
    ]


def listed(rows: Sequence[Row], gpu: str) -> list[dict[str, Any]]:
    """Lists all goals for gpu.json. `measured` and `met` are None without a measurement."""
    found = []
    for goal in goals(gpu):
        value = goal.measured(rows)
        met = None if value is None else goal.met(value)
        found.append({"goal": goal.name, "wanted": goal.target(), "measured": value, "met": met})
        found[-1]["stage"] = goal.stage
    return found


def markdown(rows: Sequence[Row], gpu: str) -> str:
    """Makes the table of all goals: first those that were measured, then the others."""
    known, others = [], []
    for goal in goals(gpu):
        value = goal.measured(rows)
        if value is None:
            others.append(f"| {goal.name} | {goal.target()} | - | not measured | {goal.stage} |")
            continue
        cells = goal.name, goal.target(), goal.shown.format(value)
        met = "met" if goal.met(value) else "not met"
        known.append(f"| {' | '.join(cells)} | {met} | {goal.stage} |")
    head = ["| goal | target | measured | result | stage |", "|---|---:|---:|---|---|"]
    return "\n\n".join(["## Goals", "\n".join([*head, *known, *others])])


def _rate(rows: Sequence[Row]) -> list[float]:
    steps = [r for r in rows if r["stage"] == "whole train step" and "bfloat16" in r["case"]]
    return _numbers(steps, "images_per_second")


def _in_step(key: str) -> Callable[[Sequence[Row]], list[float]]:
    return lambda rows: _numbers([r for r in rows if r["case"] == "train step"], key)


def _lost(rows: Sequence[Row]) -> list[float]:
    """Lists the lost times of a training whose tests have enough images."""
    large = [row for row in rows if row.get("numbers", {}).get("images", 0) >= SCORED]
    return _numbers(large, "lost_beside", ("cuda", "host"))


def _of(key: str) -> Callable[[Sequence[Row]], list[float]]:
    return lambda rows: _numbers(rows, key)


def _numbers(rows: Sequence[Row], key: str, devices: Sequence[str] = ("cuda",)) -> list[float]:
    """Lists a number of the rows of these devices that have it."""
    found = [row.get("numbers", {}).get(key) for row in rows if row["device"] in devices]
    return [value for value in found if value is not None]
