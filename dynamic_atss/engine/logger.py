"""The package's log: console and `log.txt`."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from pathlib import Path

from tqdm import tqdm

from dynamic_atss.quoting import printable

ROOT = "dynamic_atss"
_DATE = re.compile(r"\s*\d{4}-\d\d-\d\d ")


class _ToldOnce(logging.Handler):
    """Where lines cannot be written (the disk is full, the terminal is gone) one on stderr says so,
    and the run goes on; logging itself would print a traceback for each."""

    place = ""
    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            with contextlib.suppress(OSError):
                print(f"{self.place}: lines are lost ({error.strerror})", file=sys.stderr)


class _Console(_ToldOnce):
    """Lines on stdout that go above a running bar of progress instead of through it."""

    place = "the log on the console"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
        except Exception:
            self.handleError(record)


class _File(_ToldOnce, logging.FileHandler):
    """`log.txt`. A name that UTF-8 does not have is written with backslashes."""

    def __init__(self, path: Path) -> None:
        # delay: a rank that has nothing to report never opens the file.
        super().__init__(path, encoding="utf-8", delay=True, errors="backslashreplace")
        self.place = str(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it cannot be opened
            self.handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # told before
            super().close()


class _Lines(logging.Formatter):
    """Names from files can neither move the cursor nor forge a line: a line that begins with a date
    begins a record."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record.args = tuple(
                printable(str(x)) if isinstance(x, Path) else x for x in record.args
            )
        first, *others = printable(super().format(record), keep="\n\t").split("\n")
        return "\n".join([first, *(f"  {o}" if _DATE.match(o) else o for o in others)])


def log_to_file(message: str, error: BaseException) -> str:
    """Writes a message and the traceback of `error` to `log.txt` alone, and returns the path of
    that; "" if there is none."""
    logger = logging.getLogger(ROOT)
    file = next((h for h in logger.handlers if isinstance(h, logging.FileHandler)), None)
    if file is None:
        return ""
    exception = (type(error), error, error.__traceback__)
    file.handle(logger.makeRecord(ROOT, logging.ERROR, "", 0, message, (), exception))
    return file.baseFilename


def setup_logging(output_dir: str | Path | None = None, rank: int = 0) -> logging.Logger:
    """Send the package's log to stdout and, if a folder is given, to the end of its `log.txt`.

    Rank 0 logs INFO and above, the other ranks WARNING and above with their rank in the line.
    A second call replaces the first one: no line appears twice. The folder is made if need be.
    """
    logger = logging.getLogger(ROOT)
    for handler in [h for h in logger.handlers if (h.name or "").startswith(f"{ROOT}.")]:
        logger.removeHandler(handler)
        handler.close()
    handlers: dict[str, logging.Handler] = {"console": _Console()}
    if output_dir is not None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        handlers["file"] = _File(Path(output_dir) / "log.txt")
    origin = "" if rank == 0 else f" rank {rank}"
    form = _Lines(f"%(asctime)s %(levelname)s{origin} %(message)s", "%Y-%m-%d %H:%M:%S")
    for name, handler in handlers.items():
        handler.set_name(f"{ROOT}.{name}")
        handler.setFormatter(form)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    return logger
