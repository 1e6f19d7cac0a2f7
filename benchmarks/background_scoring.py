"""Measures how much time of the training the scoring of a test takes (TEST.ASYNC).

    python benchmarks/background_scoring.py [--images 5000] [--detections 100] [--categories 80]
        [--threads 2] [--rounds 5] [--work 0.1] [--stretch 15] [--json FILE]

The detections are synthetic (`evaluation.py`). A training is imitated by matrix products of
`--work` seconds each, which take all `--threads`. Each round measures the time of as many of them
as last `--stretch` seconds, in three forms by turns: without a test, with one whose scores are
awaited, and with one that another process scores. The scorer is hotcoco. A test begins with the
table of its detections. It ends with its lines in the log and its files. The lost time is the
difference to the time without a test.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, main
from evaluation import BATCH, FILED, SIZE, synthetic

from dynamic_atss.data.annotations import read_annotations
from dynamic_atss.engine.evaluator import report_scores
from dynamic_atss.evaluation.detection_table import detection_table
from dynamic_atss.evaluation.ground_truth import truth_table
from dynamic_atss.evaluation.scoring_process import ScoringProcess
from dynamic_atss.evaluation.scoring_task import ScoringTask
from dynamic_atss.files import write_text

STAGE = "scores of a test: lost time of the training"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="detections of an image")
    parser.add_argument("--categories", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=float, default=0.1, help="seconds of an iteration")
    parser.add_argument(
        "--stretch",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="length of a measured stretch of the training",
    )


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if importlib.util.find_spec("hotcoco") is None:  # pycocotools takes a hundred times as long
        note = "not run: hotcoco is not installed"
        return [Row(STAGE, f"{args.images} images", note=note, device="host").to_dict()]
    if args.quick:
        args.images, args.rounds, args.work, args.stretch = 100, 1, 0.01, 0.5
    with tempfile.TemporaryDirectory() as folder:
        task = scoring_task(args, Path(folder))
        iteration = imitation(args.work)
        count = max(round(args.stretch / args.work), 1)
        forms: dict[str, Callable[[], list[float]]] = {
            "without a test": lambda: stretch(iteration, count),
            "awaited": lambda: stretch(iteration, count, awaited(task)),
            "beside": lambda: stretch_beside(iteration, count, task),
        }
        found: dict[str, list[list[float]]] = {name: [] for name in forms}
        for _ in range(args.rounds):
            for name, form in forms.items():
                found[name].append(form())
                print(f"{name}: {found[name][-1][0]:.2f} s", flush=True)
    return [row("awaited", found, args), row("beside", found, args)]


def row(name: str, found: dict[str, list[list[float]]], args: argparse.Namespace) -> dict[str, Any]:
    """Makes the row of a form: the median of the lost times, and the time in its own calls."""
    pairs = zip(found[name], found["without a test"], strict=True)
    lost = [one[0] - other[0] for one, other in pairs]
    inside = statistics.median(one[1] for one in found[name])
    late = sum(one[2] for one in found[name] if len(one) > 2)
    numbers = {"images": args.images, "lost_seconds": statistics.median(lost)}
    if name == "beside" and not late:  # a stretch without the end of its test lost too little
        numbers["lost_beside"] = numbers["lost_seconds"]
    made = Row(
        STAGE,
        f"{name}: {args.images} images x {args.detections} detections, "
        f"{args.categories} categories, {args.threads} thread(s)",
        statistics.median(lost),
        note=f"{min(lost):.2f} to {max(lost):.2f} s in {len(lost)} rounds; "
        f"{inside:.2f} s in the calls themselves"
        + (f"; in {late:.0f} rounds the scores came too late: use a longer --stretch" * (late > 0)),
        device="host",
        numbers=numbers,
    )
    return made.to_dict()


def scoring_task(args: argparse.Namespace, folder: Path) -> ScoringTask:
    content, found = synthetic(args.images, args.detections, args.categories)
    path = folder / "annotations.json"
    write_text(path, json.dumps(content))
    truth = truth_table(read_annotations(path, need_boxes=False), str(path))
    ids = list(found)
    tables = [
        detection_table(
            {i: found[i] for i in ids[first : first + BATCH]},
            sizes=dict.fromkeys(ids, SIZE),
            original_sizes=dict.fromkeys(ids, FILED),
            category_ids=range(1, args.categories + 1),
        )
        for first in range(0, len(ids), BATCH)
    ]
    return ScoringTask(truth, np.concatenate(tables), ids, folder=folder / "results")


def imitation(seconds: float) -> Callable[[], None]:
    """Makes a function that multiplies matrices for about so many seconds, if it is alone."""
    x = torch.rand(1024, 1024)
    x @ x
    begin = time.perf_counter()
    for _ in range(10):
        x @ x
    count = max(1, round(10 * seconds / (time.perf_counter() - begin)))

    def iteration() -> None:
        for _ in range(count):
            x @ x

    return iteration


def stretch(
    iteration: Callable[[], None],
    count: int,
    begin_test: Callable[[], object] = lambda: None,
    after_each: Callable[[], object] = lambda: None,
) -> list[float]:
    """Runs iterations; gives the seconds of all, and those in the calls of the test."""
    inside, begin = 0.0, time.perf_counter()
    for call in (begin_test, *[after_each] * count):
        start = time.perf_counter()
        call()
        inside += time.perf_counter() - start
        iteration()
    return [time.perf_counter() - begin, inside]


def awaited(task: ScoringTask) -> Callable[[], None]:
    return lambda: report_scores(task, task.run(), None)


def stretch_beside(iteration: Callable[[], None], count: int, task: ScoringTask) -> list[float]:
    """Runs a stretch with a test that another process scores.

    Returns what `stretch` returns, and 1.0 if the scores came only after it, else 0.0.
    """
    running: list[ScoringProcess] = []

    def begin() -> None:
        running.append(ScoringProcess(task))

    def look() -> None:
        if running and running[0].done():
            report_scores(task, running.pop().result().scores, None)

    found = stretch(iteration, count, begin, look)
    late = bool(running)
    for process in running:  # it would disturb the next stretch
        process.result()
    return [*found, float(late)]


if __name__ == "__main__":
    logging.disable(logging.INFO)
    main(__doc__, rows, arguments)
