"""Compares the kernel of each operator of label assignment with its plain PyTorch form.

    python benchmarks/operators.py --boxes 100 1000 --batch 1

Both get the inputs that the rule gives the operator; times are summed over its calls. Calls
alternate on one thread. Times are medians of CPU time, which excludes the waits on a busy machine.
A share is relative to a train step of `--step` seconds an image. In use, the dispatcher of PyTorch
adds some microseconds to each call of the plain form.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from assignment import scene
from common import peak_memory
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.reference import PLAIN
from dynamic_atss.ops import library

Form = Callable[[], object]


class Recorder(TorchDispatchMode):
    """Records the calls of operators of label assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[tuple[Any, ...]]] = defaultdict(list)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix(f"{library.NAMESPACE}::")
        if name in PLAIN:
            self.calls[name].append(args)
        return func(*args, **(kwargs or {}))


def forms(name: str, calls: list[tuple[Any, ...]]) -> tuple[Form, Form]:
    """Returns functions that repeat the calls with the kernel and in plain PyTorch."""
    native, plain = getattr(torch.ops.dynamic_atss, name).default, PLAIN[name]
    return lambda: [native(*x) for x in calls], lambda: [plain(*x) for x in calls]


def seconds(both: tuple[Form, Form], turns: int) -> list[float]:
    times: list[list[float]] = [[], []]
    for _ in range(turns):
        for form, record in zip(both, times, strict=True):
            form()  # a warm-up
            begin = time.thread_time()
            form()
            record.append(time.thread_time() - begin)
    return [statistics.median(record) for record in times]


def rows(rule: str, boxes: int, args: argparse.Namespace) -> list[str]:
    with Recorder() as recorder:
        ASSIGNERS[rule]()(*scene(boxes, args.batch))
    found = []
    for name, calls in recorder.calls.items():
        both = forms(name, calls)
        native, plain = seconds(both, args.turns)
        case = f"`{name}` | `{rule}`, {boxes} x {args.batch}"
        times = f"{1e3 * native:.3f} ms | {1e3 * plain:.3f} ms | {1e3 * (plain - native):.3f} ms"
        share = (plain - native) / args.step / args.batch
        peaks = " | ".join(f"{peak_memory(form) / 1e6:.2f} MB" for form in both)
        found.append(f"| {case} | {times} | {share:.3%} | {peaks} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", nargs="+", choices=list(ASSIGNERS), default=list(ASSIGNERS))
    parser.add_argument(
        "--boxes", type=int, nargs="+", default=[100, 1000], help="boxes in each image"
    )
    parser.add_argument("--batch", type=int, default=1, help="number of images")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument(
        "--step", type=float, default=3.0, help="seconds that a train step takes for an image"
    )
    args = parser.parse_args()
    if library.load()["cpu"] != "native":
        parser.error(f"there are no kernels to weigh: {library.load()['cpu']}")
    torch.set_num_threads(1)
    print("| operator | rule, boxes x images | kernel | plain | saves | of a step", end="")
    print(" | kernel, peak | plain, peak |\n|---|---|---:|---:|---:|---:|---:|---:|")
    for boxes in args.boxes:
        for rule in args.rules:
            print(*rows(rule, boxes, args), sep="\n", flush=True)


if __name__ == "__main__":
    main()
