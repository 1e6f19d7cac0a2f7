"""How the processes of a start find each other: a store that they all know, and a name for it."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistError, PrefixStore, Store, TCPStore

from dynamic_atss.errors import Lost

_PAUSE = 0.1  # seconds between two looks


class _Absent(Exception):
    """Who has not come."""


@dataclass(frozen=True)
class Meeting:
    """rank, world: of this process · hosts: of all, by rank · store: of this start alone · side:
    the same through a connection of its own, which no collective waits on"""

    rank: int
    world: int
    hosts: list[str]
    store: Store
    side: Store


def meet(timeout: float) -> Meeting:
    """Waits for the other processes at MASTER_ADDR:MASTER_PORT.

    timeout: seconds

    Raises:
        Lost: after that time, with who has not come.
    """
    late = f"within {timeout:g} s (SOLVER.TIMEOUT)"
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    end = time.monotonic() + timeout
    try:
        store = _connect(world, timeout, serves=rank == 0 and not _agent_serves())
        name, hosts = _agree(store, rank, world, end)
        side = _connect(world, timeout, serves=False)
    except DistError as error:
        raise Lost(f"no answer from {place()}, where the processes meet, {late}") from error
    except _Absent as absent:
        raise Lost(f"{absent} did not come to {place()} {late}") from None
    return Meeting(rank, world, hosts, PrefixStore(name, store), PrefixStore(name, side))


def place() -> str:
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _agent_serves() -> bool:
    """Whether torchrun's agent holds the store; else the first process does."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _connect(world: int, timeout: float, *, serves: bool) -> TCPStore:
    return TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world,
        is_master=serves,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=True,
    )


def _agree(store: Store, rank: int, world: int, end: float) -> tuple[str, list[str]]:
    """A name for this start, and the hosts by rank.

    torchrun's store outlives a start and still holds the addresses of the one before. It names
    starts by the restarts of each machine, of which machines may have different numbers: some
    processes would then wait under the new name, and others call at addresses that are gone.
    So the name comes from a random number of each process. All have agreed as soon as everyone's
    name is one's own, since that contains one's own number.
    """
    hellos = [f"hello/{r}" for r in range(world)]
    names = [f"name/{r}" for r in range(world)]
    store.set(hellos[rank], f"{uuid.uuid4().hex} {socket.gethostname()}")
    agreed = [False] * world
    while time.monotonic() < end:
        if store.check(hellos):
            said = store.multi_get(hellos)
            name = hashlib.sha256(b"\n".join(said)).hexdigest()
            store.set(names[rank], name)
            given = store.multi_get(names) if store.check(names) else []
            agreed = [x.decode() == name for x in given] or agreed
            if given and all(agreed):
                return name, [x.decode().split(" ", 1)[1] for x in said]
        time.sleep(_PAUSE)
    absent = [r for r in range(world) if not store.check([hellos[r]])]
    late = absent or [r for r in range(world) if not agreed[r] and r != rank]
    raise _Absent(f"{_ranks(late)} of {world}")


def _ranks(ranks: list[int]) -> str:
    some = ", ".join(map(str, ranks[:10])) + (", ..." if len(ranks) > 10 else "")
    return f"rank {some}"
