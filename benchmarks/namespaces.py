"""Simulates two machines by network namespaces that a virtual cable joins.

Needs root and `ip` (Debian's iproute2).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_THERE = 'mount --bind "$1" /etc/hosts && hostname "$2" && shift 2 && exec "$@"'


@dataclass(frozen=True)
class Machine:
    """Describes a network namespace.

    Attributes:
        name: its name, which is also that of its network card.
        address: its network address.
        hosts: a file with the addresses of both machines.
    """

    name: str
    address: str
    hosts: Path

    def command(self, args: Sequence[str]) -> list[str]:
        """Returns the command that runs inside the machine, which has a separate host name."""
        there = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", _THERE]
        return [*there, "sh", str(self.hosts), self.name, *args]

    def link(self, state: str) -> None:
        """Sets the machine's end of the cable.

        Args:
            state: "up" or "down".
        """
        _ip("-n", self.name, "link", "set", self.name, state)


@contextlib.contextmanager
def two_machines(folder: Path, prefix: str = "gpu") -> Iterator[tuple[Machine, Machine]]:
    """Makes two machines.

    Args:
        folder: folder for the hosts file.
        prefix: beginning of the machines' names.

    Raises:
        CalledProcessError, OSError: they cannot be made.
    """
    addresses = {f"{prefix}-{letter}": f"10.77.4.{i}" for i, letter in enumerate("ab", 1)}
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in addresses.items()))
    first, second = machines = [Machine(n, a, hosts.resolve()) for n, a in addresses.items()]
    try:
        for machine in machines:
            _ip("netns", "add", machine.name)
        _ip("-n", first.name, "link", "add", first.name, "type", "veth", "peer", second.name)
        _ip("-n", first.name, "link", "set", second.name, "netns", second.name)
        for machine in machines:
            _ip("-n", machine.name, "link", "set", "lo", "up")
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", machine.name)
            machine.link("up")
        yield first, second
    finally:
        for machine in machines:
            subprocess.run(["ip", "netns", "del", machine.name], capture_output=True)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


def lacking() -> str:
    """Says why two machines cannot be made; "" if they can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian's iproute2)"
    try:
        with tempfile.TemporaryDirectory() as folder, two_machines(Path(folder), "probe") as two:
            subprocess.run(two[0].command(["true"]), check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        reason = getattr(error, "stderr", b"").decode().strip()
        return f"network namespaces cannot be made ({reason or error})"
    return ""


def processes_of(parent: int, *, below: bool = False) -> list[int]:
    """Lists the child processes of a process.

    Args:
        below: True lists all their descendants, too.
    """
    task = Path(f"/proc/{parent}/task/{parent}/children")
    children = [int(x) for x in task.read_text().split()] if task.exists() else []
    more = [x for child in children for x in processes_of(child, below=True)] if below else []
    return children + more
