"""Trains the runs of a comparison. Starts the training command in a new process for each run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from dynamic_atss.comparison.devices import Device
from dynamic_atss.comparison.plan import Job
from dynamic_atss.engine.interrupt import STOP_CODES, ignore, on_signals
from dynamic_atss.files import METRICS_FILE
from dynamic_atss.processes import end_with_parent
from dynamic_atss.progress import progress

OUTPUT = "output.txt"  # in a run's folder: the output of its processes
TRAIN = (sys.executable, "-m", "dynamic_atss", "train")
_SECONDS = 0.2  # between two checks of the processes
_LONGEST_REASON = 500  # characters
_TAIL = 2**16  # bytes at the end of a log that hold its last lines


class Failure(NamedTuple):
    """Describes a run that failed, and the reason."""

    job: Job
    reason: str


class _Started(NamedTuple):
    """Describes a running job.

    Attributes:
        job: the planned run.
        process: the process that trains it.
        begin: time of the start in seconds.
        place: the byte in output.txt at which the lines of this process begin.
    """

    job: Job
    process: subprocess.Popen[bytes]
    begin: float
    place: int


class Runner:
    """Trains the runs that are not complete, one at a time on each device.

    Stops all its processes at the end, also after an error. They save a checkpoint first. If this
    process is killed, the system stops them.
    """

    def __init__(
        self, jobs: Sequence[Job], devices: Sequence[Device], test_sets: Sequence[str]
    ) -> None:
        self._jobs, self._devices, self._test_sets = jobs, devices, test_sets
        self._running: dict[int, _Started] = {}
        self._failures: list[Failure] = []
        self._begin, self._at_begin = time.monotonic(), 0

    def run(self) -> list[Failure]:
        """Trains all runs and gives those that failed. A failure does not stop the others.

        Raises:
            Stopped: a signal came. The checkpoints of all runs are saved.
        """
        self._print_complete()
        waiting = [job for job in self._jobs if not job.complete(self._test_sets)]
        total = sum(job.cfg.SOLVER.MAX_ITER for job in self._jobs)
        self._at_begin = self._iterations()
        with progress((), "compare", total) as bar:
            bar.initial = bar.n = self._at_begin  # earlier iterations do not count for the speed
            try:
                while waiting or self._running:
                    self._start(waiting)
                    time.sleep(_SECONDS)
                    self._take_ended()
                    bar.update(self._iterations() - bar.n)
            finally:
                self._stop()
        return self._failures

    def _start(self, waiting: list[Job]) -> None:
        for place, device in enumerate(self._devices):
            if waiting and place not in self._running:
                self._running[place] = _start(waiting.pop(0), device)

    def _take_ended(self) -> None:
        for place, started in [*self._running.items()]:
            code = started.process.poll()
            if code is None:
                continue
            del self._running[place]
            reason = "" if started.job.complete(self._test_sets) else _reason(started, code)
            if reason:
                self._failures.append(Failure(started.job, reason))
            self._print_ended(started, reason)

    def _stop(self) -> None:
        """Stops all runs. Each saves a checkpoint after its current iteration."""
        with on_signals(ignore):
            for started in self._running.values():
                started.process.terminate()
            for started in self._running.values():
                started.process.wait()

    def _iterations(self) -> int:
        """Counts the iterations of all runs."""
        return sum(_iterations(job.folder) for job in self._jobs)

    def _print_complete(self) -> None:
        count = self._complete()
        if count:
            tqdm.write(f"{count} of {len(self._jobs)} runs are already complete")

    def _complete(self) -> int:
        return sum(job.complete(self._test_sets) for job in self._jobs)

    def _print_ended(self, started: _Started, reason: str) -> None:
        spent = timedelta(seconds=round(time.monotonic() - started.begin))
        result = f"failed: {reason}" if reason else "done"
        tqdm.write(
            f"{started.job.name}: {result}, after {spent}; {self._complete()} of {len(self._jobs)} "
            f"runs are complete{self._left()}"
        )

    def _left(self) -> str:
        """Estimates the time left from the iterations since the start on all devices."""
        failed = {failure.job.folder for failure in self._failures}
        left = sum(
            job.cfg.SOLVER.MAX_ITER - _iterations(job.folder)
            for job in self._jobs
            if job.folder not in failed and not job.complete(self._test_sets)
        )
        done = self._iterations() - self._at_begin
        if not left or done <= 0:
            return ""
        seconds = (time.monotonic() - self._begin) / done * left
        return f", about {timedelta(seconds=round(seconds))} left"


def _start(job: Job, device: Device) -> _Started:
    settings = job.write_settings(device.kind)
    # --allow-code is safe here: the command line has already allowed the code in the file.
    command = [*TRAIN, "--config-file", str(settings), "--allow-code", "--resume"]
    with open(job.folder / OUTPUT, "ab") as output:
        place = output.tell()
        process = subprocess.Popen(
            command,
            env={**os.environ, **device.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C does not reach the runs; this process stops them
            preexec_fn=_end_with_parent,
        )
    return _Started(job, process, time.monotonic(), place)


def _end_with_parent() -> None:
    end_with_parent(signal.SIGTERM)


def _iterations(folder: Path) -> int:
    """Reads the last iteration from the end of the file. The scores of a test may follow later."""
    try:
        with open(folder / METRICS_FILE, "rb") as file:
            file.seek(-min(_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            found = re.findall(rb'^{"iteration": (\d+)', file.read(), re.MULTILINE)
    except OSError:
        return 0
    return max(map(int, found), default=0)


def _reason(started: _Started, code: int) -> str:
    """Finds in the output why an incomplete run ended."""
    output = started.job.folder / OUTPUT
    if code in STOP_CODES or code < 0:
        return f"ended by a signal (exit code {code}); the same command resumes it"
    if code == 0:
        return f"it has no scores; check that its test set has boxes ({output})"
    printed = output.read_bytes()[started.place :].decode(errors="replace")
    lines = [line for line in printed.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")] or lines or ["no output"]
    return f"{errors[-1].removeprefix('error: ')[:_LONGEST_REASON]} (exit code {code}, {output})"
