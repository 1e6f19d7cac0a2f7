"""Who holds the lock of a folder."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """Who holds a folder: host and process, by its id and the time it began; `born`: that time as
    the system counts it; `launch`: the launcher's run, whose restarts are one run."""

    host: str
    pid: int
    began: str
    born: str = ""
    launch: str = ""

    @classmethod
    def own(cls) -> Holder:
        pid = os.getpid()
        launch = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        return cls(
            host=socket.gethostname(),
            pid=pid,
            began=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            born=_born(pid),
            launch="" if launch == "none" else launch,  # torchrun's name for none
        )

    @classmethod
    def read(cls, text: bytes) -> Holder | None:
        """None: the text names nobody. What it names is printed, and so has to be printable."""
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
        return json.dumps(asdict(self))

    @property
    def runs_here(self) -> bool:
        """Whether it is a process of this machine that is still there, and not another one that
        has got its id."""
        return self.host == socket.gethostname() and self.born == _born(self.pid) != ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.began}"


def _born(pid: int) -> str:
    """When a process began, in ticks since the start of a machine, and which start that was; ""
    if there is no such process. The same id comes again, the same time does not."""
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
