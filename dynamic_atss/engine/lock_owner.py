"""Describes the process that holds the lock of a folder."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LockOwner:
    """Describes the process that holds a folder.

    Attributes:
        host: the name of the machine.
        pid: the id of the process.
        began: the time at which it took the lock.
        born: the start of the process as the system counts it, see `_born`.
        launch: the id of the launcher's run, which all its restarts share; "": none.
    """

    host: str
    pid: int
    began: str
    born: str = ""
    launch: str = ""

    @classmethod
    def this_process(cls) -> LockOwner:
        """Describes the current process."""
        pid = os.getpid()
        launch = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        return cls(
            host=socket.gethostname(),
            pid=pid,
            began=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            born=_born(pid),
            launch="" if launch == "none" else launch,  # torchrun's default
        )

    @classmethod
    def read(cls, text: bytes) -> LockOwner | None:
        """Reads the text of a lock file; None if it is broken or contains unprintable names."""
        try:
            values = json.loads(text)
            pid = int(values.pop("pid"))
            found = cls(pid=pid, **values)
            return found if "".join(values.values()).isprintable() else None
        except (
            ArithmeticError,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
        ):
            return None

    def text(self) -> str:
        """Gives the text of a lock file."""
        return json.dumps(asdict(self))

    @property
    def runs_here(self) -> bool:
        """Returns True if the process still runs on this machine.

        Another process with its id does not count.
        """
        return self.host == socket.gethostname() and self.born == _born(self.pid) != ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.began}"


def _born(pid: int) -> str:
    """Gives the start of a process in ticks since boot, and the id of the boot.

    Returns "" if there is no such process. A process id can be used again. The same start time
    cannot.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _born_without_proc(pid)
    return f"{stat.rpartition(')')[2].split()[19]} {boot}"


def _born_without_proc(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "there"
