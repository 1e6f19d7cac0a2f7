"""Runs stages one after the other: commands with time limits, within a budget of seconds."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OK, FAILED, TIMED_OUT, NO_TIME = "ok", "failed", "timed out", "not run: no time left"
NOTHING = "nothing ran"  # the command succeeded, but nothing was checked
MARK = "DYNAMIC_ATSS_STAGE"  # an environment variable that all processes of a stage inherit


@dataclass(frozen=True)
class Stage:
    """Describes a command and its limits.

    Attributes:
        name: the name of the stage.
        command: the command.
        limit: seconds after which it is killed.
        min_left: seconds that must be left to start it.
        needs: stages that, if they ran, must have succeeded.
        optional: True if it is no failure that there was no time for it.
        absent: the reason why it cannot run here, or "".
        environment: additional variables.
        found: the JSON file that it writes.
        summarize: makes one line from (content of that file, output).
        ran: tells from the output whether anything ran.
        may_be_empty: True if it is no failure that nothing ran.
    """

    name: str
    command: Sequence[str]
    limit: float
    min_left: float = 5.0
    needs: tuple[str, ...] = ()
    optional: bool = False
    absent: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    found: Path | None = None
    summarize: Callable[[Any, str], str] = lambda found, output: ""
    ran: Callable[[str], bool] = lambda output: True
    may_be_empty: bool = False


@dataclass(frozen=True)
class Result:
    """Describes the result of a stage.

    Attributes:
        name: the name of the stage.
        state: OK, FAILED, TIMED_OUT, NOTHING or "not run: " and the reason.
        seconds: its duration.
        summary: one line.
        optional, may_be_empty: as in `Stage`.
        found: content of the file that the stage writes.
        end: end of its output.
    """

    name: str
    state: str
    seconds: float = 0.0
    summary: str = ""
    optional: bool = False
    found: Any = None
    end: str = ""
    may_be_empty: bool = False

    @property
    def bad(self) -> bool:
        """True if the check fails because of this stage."""
        if self.state == NOTHING:
            return not self.may_be_empty
        return self.state == FAILED or (self.state in (TIMED_OUT, NO_TIME) and not self.optional)


@dataclass
class Runner:
    """Runs stages.

    Attributes:
        log: the file of their output.
        folder: the folder in which they run.
        environment: their variables.
        left: returns the remaining seconds of the budget.
        note: gets the results so far after each stage, so that a killed check leaves them.
    """

    log: Path
    folder: Path
    environment: Mapping[str, str]
    left: Callable[[], float]
    note: Callable[[list[Result]], None]

    def run(self, stages: Iterable[Stage]) -> list[Result]:
        results: list[Result] = []
        for stage in stages:
            results.append(self._one(stage, {r.name: r.state for r in results}))
            self.note(results)
        return results

    def _one(self, stage: Stage, before: Mapping[str, str]) -> Result:
        lacking = [name for name in stage.needs if before.get(name, OK) != OK]
        if stage.absent:
            return Result(stage.name, f"not run: {stage.absent}")
        if lacking:
            return Result(stage.name, f"not run: needs {', '.join(lacking)}")
        if self.left() < stage.min_left:
            return Result(stage.name, NO_TIME, optional=stage.optional)
        return self._run(stage)

    def _run(self, stage: Stage) -> Result:
        if stage.found is not None:
            stage.found.unlink(missing_ok=True)
        begin, start = time.monotonic(), self._headline(stage)
        code = self._process(stage, min(stage.limit, self.left()))
        output = self.log.read_bytes()[start:].decode(errors="replace")
        found = content(stage.found)
        state = TIMED_OUT if code is None else FAILED if code else OK
        state = NOTHING if state == OK and not stage.ran(output) else state
        return Result(
            stage.name,
            state,
            time.monotonic() - begin,
            summary_of(stage, found, output),
            stage.optional,
            found,
            last_lines(output),
            stage.may_be_empty,
        )

    def _headline(self, stage: Stage) -> int:
        """Writes the headline of a stage; returns where its output begins in the log."""
        with self.log.open("ab") as file:
            file.write(f"\n===== {stage.name}: {' '.join(stage.command)}\n".encode())
            return file.tell()

    def _process(self, stage: Stage, limit: float) -> int | None:
        """Runs a command; returns its exit code, or None if it was killed after `limit` seconds."""
        mark = uuid.uuid4().hex
        environment = {**os.environ, **self.environment, **stage.environment, MARK: mark}
        with self.log.open("ab") as file:
            process = subprocess.Popen(
                stage.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
            try:
                return process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                file.write(f"\nkilled after {limit:.0f} s\n".encode())
                return None
            finally:  # also if this process is stopped
                end_all(process, mark)


def end_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kills the processes of a stage, also those in new sessions, such as torchrun's."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for _ in range(10):  # a process may have started another one
        members = find_marked(mark)
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            return
        time.sleep(0.02)


def find_marked(mark: str) -> list[int]:
    """Lists processes with MARK=mark in their environment, from /proc of Linux."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # ended, or another user's
            if f"{MARK}={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def content(path: Path | None) -> Any:
    """Reads a JSON file; None if it is missing or incomplete."""
    try:
        return None if path is None else json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def summary_of(stage: Stage, found: Any, output: str) -> str:
    """Summarizes a stage; "" if a killed stage left too little for that."""
    try:
        return stage.summarize(found, output)
    except (KeyError, TypeError, IndexError, ValueError):
        return ""


def last_lines(output: str, count: int = 12) -> str:
    return "\n".join(line[:300] for line in output.rstrip().splitlines()[-count:])
