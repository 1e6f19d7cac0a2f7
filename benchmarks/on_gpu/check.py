"""Runs the complete check: packages, stages, files."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dynamic_atss.errors import UserError
from on_gpu import packages, summary, table
from on_gpu.runner import Result, Runner, Stage

SITE = table.ROOT / "build/gpu_site"  # packages from wheels
KERNELS = table.ROOT / "build/gpu"
RESERVE = 3.0  # seconds of the budget for killing and writing


def check(args: argparse.Namespace, begin: float) -> int:
    """Returns the exit code: 1 if a stage failed, was killed, or is required and did not run.

    Args:
        begin: time.monotonic() at the start of the budget.

    Raises:
        UserError: a package or the GPU is missing, or the output cannot be written.
    """
    if not args.minutes > 0:
        raise UserError(f"--minutes {args.minutes:g}: more than 0 is needed")
    log = _fresh_output(args.output)
    environment = _environment(args.device)
    if args.wheels is not None:
        added = packages.install_wheels(args.wheels, SITE)
        print(f"from {args.wheels}: {', '.join(added) or 'nothing that is not there'}", flush=True)
    gpus = packages.check(environment, args.device)
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as scratch:
        sanitizer = table.find_sanitizer(environment) if args.device == "cuda" else None
        place = table.Place(args.device, Path(scratch), KERNELS, sanitizer, gpus)
        planned = table.stages(place, args.stages)
        report = Report(args.output, len(planned), begin, 60 * args.minutes, args.device == "cpu")
        runner = Runner(log, table.ROOT, environment, report.left, report.note)
        results = runner.run(announced(planned))
    return int(any(result.bad for result in results))


class Report:
    """Prints and writes the results so far and the remaining budget."""

    def __init__(self, output: Path, planned: int, begin: float, budget: float, dry: bool) -> None:
        self.output, self.planned, self.begin, self.budget = output, planned, begin, budget
        self.dry = dry
        self.command = shlex.join(["python", *sys.argv])
        summary.write(output, [], self.command, self._closing([]), dry)

    def left(self) -> float:
        return self.budget - RESERVE - (time.monotonic() - self.begin)

    def note(self, results: list[Result]) -> None:
        last, line = results[-1], self._closing(results)
        summary.write(self.output, results, self.command, line, self.dry)
        print(f"{last.state}, {last.seconds:.0f} s{': ' if last.summary else ''}{last.summary}")
        if len(results) == self.planned:
            print(f"{line}; {self.output / 'gpu.md'}")
        sys.stdout.flush()

    def _closing(self, results: list[Result]) -> str:
        seconds = time.monotonic() - self.begin
        return summary.closing(results, self.planned, seconds, self.budget)


def announced(stages: list[Stage]) -> Iterator[Stage]:
    for stage in stages:
        print(f"{stage.name} ... ", end="", flush=True)
        yield stage


def _environment(device: str) -> dict[str, str]:
    """Makes the environment of the stages, where project, benchmarks and wheels are importable."""
    places = [str(table.ROOT), str(table.ROOT / "benchmarks"), str(SITE)]
    places += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONUNBUFFERED": "1"}
    programs = [
        os.environ.get("PATH", os.defpath),
        str(SITE / "bin"),
    ]  # has ninja, if it comes from a wheel
    found["PATH"] = os.pathsep.join(programs)
    if device == "cuda":
        return {**found, "DYNAMIC_ATSS_NATIVE": str(KERNELS / "dynamic_atss/ops")}
    return {
        **found,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }  # leaves cores for other work


def _fresh_output(output: Path) -> Path:
    """Empties the log and deletes the files of an earlier check."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name in ("gpu.json", "gpu.md", "benchmarks.md"):
            with contextlib.suppress(FileNotFoundError):
                (output / name).unlink()
        (output / "log.txt").write_text("")
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written ({error.strerror})") from None
    return output / "log.txt"
