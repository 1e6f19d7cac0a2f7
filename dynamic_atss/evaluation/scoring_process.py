"""Scores a test in a process of its own, so that a training continues meanwhile.

A task starts a Python that imports no PyTorch: it begins within half a second, takes little
memory, and has no part in the CUDA context, the threads and the open files of the training. It runs
with low priority.

    python -m dynamic_atss.evaluation.scoring_process < task > result     # both are pickles
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import CocoScores
from dynamic_atss.evaluation.scoring_task import ScoringTask
from dynamic_atss.processes import end_with_parent, signals_blocked

_ROOT = Path(__file__).resolve().parents[2]
_NICENESS = 10  # the training goes first

LogLine = tuple[str, int, str]  # logger, level, text


class ScoringFailedError(Exception):
    """Says that a scoring process ended without a result. The message says how it ended."""


@dataclass(frozen=True)
class Scored:
    """Holds the result of a task.

    Attributes:
        scores: the scores; None if the data set has no boxes.
        lines: the lines that the process logged.
    """

    scores: CocoScores | None
    lines: list[LogLine]

    def log(self) -> None:
        """Logs the lines here, as if the scores had been computed in this process."""
        for name, level, text in self.lines:
            logging.getLogger(name).log(level, "%s", text)


class ScoringProcess:
    """Runs a scoring task in another process. If this process ends in any way, that one ends, too.

    Task and result travel in files without a name. A pipe would stay open in loader workers that
    are forked at the same moment.
    """

    def __init__(self, task: ScoringTask) -> None:
        """Starts the process, and returns at once. Call it in the main thread.

        Raises:
            ScoringFailedError: the process cannot be started.
        """
        try:
            self._result = tempfile.TemporaryFile()  # noqa: SIM115 (`result` and `close` close it)
            content = tempfile.TemporaryFile()  # noqa: SIM115 (closed below)
            pickle.dump(task, content, pickle.HIGHEST_PROTOCOL)
            content.seek(0)
        except OSError as error:
            raise ScoringFailedError(f"its temporary file: {error.strerror} (TMPDIR)") from error
        with content:
            self._process = _start(content, self._result)

    def done(self) -> bool:
        """Returns True if the process has ended."""
        return self._process.poll() is not None

    def ready(self) -> bool:
        """Returns True if the process has ended with a result."""
        return self._process.poll() == 0

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until the process has ended, or for so many seconds. Returns True if it has ended.

        Handlers of signals run meanwhile.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.done()

    def result(self) -> Scored:
        """Waits until the process has ended, and gives the result. Call it once.

        Raises:
            UserError: as `ScoringTask.run`.
            ScoringFailedError: the process ended without a result.
        """
        code = self._process.wait()
        with self._result as file:
            if code:
                raise ScoringFailedError(_ending(code))
            file.seek(0)
            result, lines = pickle.load(file)
        if isinstance(result, UserError):
            raise result
        return Scored(result, lines)

    def close(self) -> None:
        """Ends the process, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._result.close()


def _start(content: IO[bytes], result: IO[bytes]) -> subprocess.Popen[bytes]:
    # PYTHONSAFEPATH: a file of the current folder must not replace a module of the same name.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if str(_ROOT) not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        places = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(places)
    command = [sys.executable, "-m", __name__]
    try:
        # Ctrl-C and a launcher signal all processes of a run. The training then takes the scores
        # and saves a checkpoint, so the scoring must not end before it.
        with signals_blocked():
            return subprocess.Popen(command, stdin=content, stdout=result, env=environment)
    except OSError as error:
        raise ScoringFailedError(f"it cannot be started: {error.strerror}") from error


def _ending(code: int) -> str:
    if code > 0:
        return f"it ended with exit code {code}"
    try:
        return f"{signal.Signals(-code).name} ended it"
    except ValueError:  # a real-time signal
        return f"signal {-code} ended it"


def main() -> None:
    """Reads a task from stdin and writes its result to stdout."""
    end_with_parent()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # stray prints must not damage the result
    task = pickle.load(sys.stdin.buffer)
    result: Any
    with _collected() as lines:
        try:
            result = task.run()
        except UserError as error:
            result = error
    with output:
        pickle.dump((result, lines), output, pickle.HIGHEST_PROTOCOL)


@contextlib.contextmanager
def _collected() -> Iterator[list[LogLine]]:
    """Gives the list to which the lines that are logged in the block are added."""
    lines: list[LogLine] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.name, record.levelno, record.getMessage()))

    root, handler = logging.getLogger(), Collector()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


if __name__ == "__main__":
    main()
