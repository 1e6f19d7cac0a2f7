"""What each operator of label assignment saves: rules with all kernels, and with one of them in
plain PyTorch.

    python benchmarks/operators.py --boxes 100 1000 --batch 1

One thread; medians of the processor's time (without what a busy machine makes it wait), calls take
turns. A share is of a train step of `--step` seconds an image; an operator that saves under 0.01 %
of it in every rule is not worth its lines.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from assignment import scene
from torch.profiler import ProfilerActivity, profile

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.reference import PLAIN
from dynamic_atss.ops import library

Call = Callable[[], object]


def operators_of(call: Call) -> list[str]:
    """Those of label assignment that it calls."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        call()
    names = {event.key.removeprefix(f"{library.NAMESPACE}::") for event in record.key_averages()}
    return sorted(names & PLAIN.keys())


@contextmanager
def in_plain_form(name: str) -> Iterator[None]:
    """As if the operator had no kernel."""
    with torch.library._scoped_library(library.NAMESPACE, "IMPL") as kernels:
        if name:
            kernels.impl(name, PLAIN[name], "CPU")
        yield


def savings(call: Call, turns: int) -> tuple[float, dict[str, float]]:
    """Seconds with all kernels, and how many more it takes without each of them."""
    times: dict[str, list[float]] = {name: [] for name in ("", *operators_of(call))}
    for _ in range(turns):
        for name, record in times.items():
            with in_plain_form(name):
                call()  # a warm-up
                begin = time.thread_time()
                call()
                record.append(time.thread_time() - begin)
    base, *others = (statistics.median(record) for record in times.values())
    return base, {name: x - base for name, x in zip(list(times)[1:], others, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", nargs="+", choices=list(ASSIGNERS), default=list(ASSIGNERS))
    parser.add_argument("--boxes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--step", type=float, default=3.0, help="seconds of a train step an image")
    args = parser.parse_args()
    if library.load()["cpu"] != "native":
        parser.error(f"there are no kernels to weigh: {library.load()['cpu']}")
    torch.set_num_threads(1)
    print("| rule, boxes x images | all kernels | operator | saves | of a step |")
    print("|---|---:|---|---:|---:|")
    for boxes in args.boxes:
        inputs = scene(boxes, args.batch)
        for name in args.rules:
            rule = ASSIGNERS[name]()
            base, saved = savings(lambda rule=rule, inputs=inputs: rule(*inputs), args.turns)
            for operator, seconds in saved.items():
                case = f"{name}, {boxes} x {args.batch} | {1e3 * base:.2f} ms | {operator}"
                share = seconds / args.step / args.batch
                print(f"| {case} | {1e3 * seconds:.2f} ms | {share:.3%} |", flush=True)


if __name__ == "__main__":
    main()
