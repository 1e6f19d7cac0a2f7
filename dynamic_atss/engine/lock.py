"""Locks a folder, so that only one run uses it, and says which run does.

The system's lock on the file (`fcntl.lockf`) ends with the process that holds it, even if it is
killed, and loader workers do not inherit it. Machines that share the folder over a network may not
see each other's locks, so the file also names its owner, which touches it every minute.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from pathlib import Path

from dynamic_atss.engine.lock_owner import LockOwner
from dynamic_atss.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: there is no lock
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

NAME = "run.lock"
_BEAT_SECONDS = 60.0
_SILENT_SECONDS = 5 * _BEAT_SECONDS  # after it, an owner on another machine counts as ended
_MOST_BYTES = 4096
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Lock:
    """Locks a folder.

    Call `release` at the end. The system releases the lock of a process that is killed.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file: int | None = None
        self._released = threading.Event()

    def take(self) -> None:
        """Takes the lock. Raises UserError if another run holds it, or it cannot be written."""
        if fcntl is None:
            return
        try:
            self._take()
        except OSError as error:
            raise UserError(
                f"OUTPUT_DIR {self._path.parent}: {NAME} cannot be written "
                f"({error.strerror or error}): make room or choose another folder"
            ) from error
        threading.Thread(target=self._beat, args=(self._file,), daemon=True).start()

    def _take(self) -> None:
        file, has_locks = _open_locked(self._path)
        if file is None:
            raise UserError(
                f"{self._refusal(_read(self._path))}; choose another OUTPUT_DIR, or wait until it "
                "ends"
            )
        try:
            owner = LockOwner.read(os.pread(file, _MOST_BYTES, 0))
            if owner is not None:
                self._take_over(owner, has_locks)
            _write(file, LockOwner.this_process().text().encode())
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def _take_over(self, owner: LockOwner, has_locks: bool) -> None:
        """Raises UserError if the owner that the file names still runs without a system lock."""
        if self._alive(owner, has_locks):
            raise UserError(
                f"{self._refusal(owner)}; its last sign of life is {_age(self._path):.0f} s old: "
                f"if it has ended, delete {self._path} or wait until {_SILENT_SECONDS:.0f} s"
            )
        logger.warning("%s is taken over: its owner has ended (%s)", self._path, owner)

    def _alive(self, owner: LockOwner, has_locks: bool) -> bool:
        """Returns True if the owner of the file still runs, as far as this process can see.

        Args:
            owner: the owner that the file names.
            has_locks: True if the file system has locks. An owner on this machine would hold one.
        """
        current = LockOwner.this_process()
        if owner.launch and owner.launch == current.launch:  # before the launcher's restart
            return False
        if owner.host == current.host:
            return not has_locks and owner.runs_here
        return _age(self._path) < _SILENT_SECONDS

    def _refusal(self, owner: LockOwner | None) -> str:
        who = owner or "another process"
        return f"OUTPUT_DIR {self._path.parent}: another run uses it ({who})"

    def _beat(self, file: int) -> None:
        while not self._released.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(file)

    def release(self) -> None:
        """Releases the lock. Does nothing if it is not taken."""
        self._released.set()
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(file, self._path):  # not if it was deleted and another run made a new one
                self._path.unlink()
        os.close(file)


def _read(path: Path) -> LockOwner | None:
    """Reads the owner from a file that another process has locked."""
    try:
        with open(path, "rb") as file:
            return LockOwner.read(file.read(_MOST_BYTES))
    except OSError:
        return None


def _open_locked(path: Path) -> tuple[int | None, bool]:
    """Opens and locks the file.

    Returns:
        the file, or None if another process has locked it; and True if the file system has locks.
        If it has none, the file is not locked.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            has_locks = _lock(file)
        except OSError as error:
            os.close(file)
            if error.errno in _HELD:
                return None, True
            raise
        if _is_at(file, path):
            return file, has_locks
        os.close(file)  # the owner has just deleted it


def _lock(file: int) -> bool:
    """Locks a file. Returns False if the file system has no locks.

    Raises:
        OSError: the file cannot be locked, for example because another process has locked it.
    """
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
    """Gives the seconds since a file was touched.

    It uses the clock of the file system, because the clocks of machines differ.
    """
    probe = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
