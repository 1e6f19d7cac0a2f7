"""Sets up the log of the package: console and `log.txt`."""

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


class _WarnsOnce(logging.Handler):
    """Prints one line to stderr when lines cannot be written, for example to a full disk.

    The run continues. The base class would print a traceback for each line.
    """

    place = ""
    _warned = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._warned:
            self._warned = True
            with contextlib.suppress(OSError):
                print(f"{self.place}: lines are lost ({error.strerror})", file=sys.stderr)


class _Console(_WarnsOnce):
    """Writes lines to stdout, above a progress bar."""

    place = "the log on the console"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record))
        except Exception:
            self.handleError(record)


class _File(_WarnsOnce, logging.FileHandler):
    """Writes `log.txt`. Escapes characters that UTF-8 cannot encode."""

    def __init__(self, path: Path) -> None:
        # delay: a rank that has nothing to report never opens the file.
        super().__init__(path, encoding="utf-8", delay=True, errors="backslashreplace")
        self.place = str(path)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file cannot be opened
            self.handleError(record)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the failed write has been reported
            super().close()


class _Lines(logging.Formatter):
    """Formats records so that a name from a file can neither move the cursor nor forge a line.

    A record begins with a date; other lines that begin so are indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record.args = tuple(
                printable(str(x)) if isinstance(x, Path) else x for x in record.args
            )
        first, *others = printable(super().format(record), keep="\n\t").split("\n")
        return "\n".join([first, *(f"  {o}" if _DATE.match(o) else o for o in others)])


def log_to_file(message: str, error: BaseException) -> str:
    """Writes a message and the traceback of `error` only to `log.txt`.

    Returns the path of the file; "" if there is none.
    """
    logger = logging.getLogger(ROOT)
    file = next((h for h in logger.handlers if isinstance(h, logging.FileHandler)), None)
    if file is None:
        return ""
    exception = (type(error), error, error.__traceback__)
    file.handle(logger.makeRecord(ROOT, logging.ERROR, "", 0, message, (), exception))
    return file.baseFilename


def setup_logging(output_dir: str | Path | None = None, rank: int = 0) -> logging.Logger:
    """Sends the package's log to stdout and, if a folder is given, to the end of its `log.txt`.

    Rank 0 logs INFO and above. The other ranks log WARNING and above, with the rank in the line.
    A second call replaces the handlers of the first. Makes the folder if needed.
    """
    close_logging()
    logger = logging.getLogger(ROOT)
    handlers: dict[str, logging.Handler] = {"console": _Console()}
    if output_dir is not None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        handlers["file"] = _File(Path(output_dir) / "log.txt")
    origin = "" if rank == 0 else f" rank {rank}"
    formatter = _Lines(f"%(asctime)s %(levelname)s{origin} %(message)s", "%Y-%m-%d %H:%M:%S")
    for name, handler in handlers.items():
        handler.set_name(f"{ROOT}.{name}")
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    return logger


def close_logging() -> None:
    """Removes the handlers of `setup_logging` and closes `log.txt`."""
    logger = logging.getLogger(ROOT)
    for handler in [h for h in logger.handlers if (h.name or "").startswith(f"{ROOT}.")]:
        logger.removeHandler(handler)
        handler.close()
