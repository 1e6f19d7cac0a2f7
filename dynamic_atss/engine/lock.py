"""One run in one folder: a lock that says whose it is.

The system's own lock on the file (`fcntl.lockf`) ends with the process that holds it, however that
ends; a loader worker does not inherit it. Machines that share the folder over a network may not see
each other's locks, so the file also says who holds it, and its holder touches it every minute.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from pathlib import Path

from dynamic_atss.engine.holder import Holder
from dynamic_atss.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: what the file says is all there is
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

NAME = "run.lock"
_BEAT_SECONDS = 60.0
_SILENT_SECONDS = 5 * _BEAT_SECONDS  # a holder on another machine is given up after
_MOST_BYTES = 4096
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Lock:
    """The lock of a folder. Release it in the end; a process that is killed does so, too."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: int | None = None
        self._released = threading.Event()

    def take(self) -> None:
        """Raises UserError if another run has the folder, or the lock cannot be written."""
        try:
            self._take()
        except OSError as error:
            raise UserError(
                f"OUTPUT_DIR {self._path.parent}: {NAME} cannot be written "
                f"({error.strerror or error}): make room or choose another folder"
            ) from error
        threading.Thread(target=self._beat, args=(self._file,), daemon=True).start()

    def _take(self) -> None:
        file, certain = _open_locked(self._path)
        if file is None:
            raise UserError(
                f"{self._refusal(_read(self._path))}; choose another OUTPUT_DIR, or wait for its "
                "end"
            )
        try:
            found = Holder.read(os.pread(file, _MOST_BYTES, 0))
            if found is not None:
                self._take_over(found, certain)
            _write(file, Holder.own().text().encode())
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def _take_over(self, found: Holder, certain: bool) -> None:
        """Raises UserError if the holder that a file names is at work, though it is not locked."""
        if self._alive(found, certain):
            raise UserError(
                f"{self._refusal(found)}; its last sign of life is {_age(self._path):.0f} s old: "
                f"if it is gone, delete {self._path} or wait until that is {_SILENT_SECONDS:.0f} s"
            )
        logger.warning("%s is taken over: its holder has ended (%s)", self._path, found)

    def _alive(self, found: Holder, certain: bool) -> bool:
        """certain: the system has locks, so that one of this machine would have been seen"""
        own = Holder.own()
        if found.launch and found.launch == own.launch:  # before the launcher's restart
            return False
        if found.host == own.host:
            return not certain and found.runs_here
        return _age(self._path) < _SILENT_SECONDS

    def _refusal(self, found: Holder | None) -> str:
        who = found or "another process"
        return f"OUTPUT_DIR {self._path.parent}: a run is at work in it ({who})"

    def _beat(self, file: int) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(file)

    def release(self) -> None:
        """A second call, or one without `take`, does nothing."""
        self._released.set()
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(file, self._path):  # it may have been deleted, and be another run's by now
                self._path.unlink()
        os.close(file)


def _read(path: Path) -> Holder | None:
    """Of a file that another process has locked."""
    try:
        with open(path, "rb") as file:
            return Holder.read(file.read(_MOST_BYTES))
    except OSError:
        return None


def _open_locked(path: Path) -> tuple[int | None, bool]:
    """The file, locked, or None if another process has locked it; and whether the file system has
    locks at all. Where it has none, the file comes without."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            certain = _lock(file)
        except OSError as error:
            os.close(file)
            if error.errno in _HELD:
                return None, True
            raise
        if _is_at(file, path):
            return file, certain
        os.close(file)  # its holder has just deleted it


def _lock(file: int) -> bool:
    """Raises OSError if it is another's; False where there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _write(file: int, text: bytes) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, text, 0)
    os.fsync(file)


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system: that of another machine
    may be wrong."""
    probe = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
