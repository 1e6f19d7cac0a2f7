"""Two machines for the tests of a network: network namespaces of this one, joined by a virtual
cable. Needs root and `ip` (Debian's iproute2)."""

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
    """A network namespace, `name`, whose network card has the same name; hosts: a file with the
    addresses of both"""

    name: str
    address: str
    hosts: Path

    def command(self, args: Sequence[str]) -> list[str]:
        """As it runs there; the machine has a host name of its own."""
        there = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", _THERE]
        return [*there, "sh", str(self.hosts), self.name, *args]

    def link(self, state: str) -> None:
        """state: "up" or "down", of its end of the cable"""
        _ip("-n", self.name, "link", "set", self.name, state)


@contextlib.contextmanager
def two_machines(folder: Path, prefix: str = "gpu") -> Iterator[tuple[Machine, Machine]]:
    """folder: for a file · prefix: of their names

    Raises CalledProcessError or OSError where they cannot be made.
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
    """Why there cannot be two machines; "" if there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian's iproute2)"
    try:
        with tempfile.TemporaryDirectory() as folder, two_machines(Path(folder), "probe") as two:
            subprocess.run(two[0].command(["true"]), check=True, capture_output=True)
    except (subprocess.CalledProcessError, OSError) as error:
        said = getattr(error, "stderr", b"").decode().strip()
        return f"network namespaces cannot be made ({said or error})"
    return ""


def processes_of(parent: int, *, below: bool = False) -> list[int]:
    """The processes that one has started; below: and those that these have."""
    task = Path(f"/proc/{parent}/task/{parent}/children")
    children = [int(x) for x in task.read_text().split()] if task.exists() else []
    more = [x for child in children for x in processes_of(child, below=True)] if below else []
    return children + more
