"""Lets the processes of a run find each other through a store, under a name for this start."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from torch.distributed import DistError, PrefixStore, Store, TCPStore

from dynamic_atss.errors import LostProcessError

_PAUSE = 0.1  # seconds between two checks


class _Absent(Exception):
    """Says that processes have not joined. The message names them."""


@dataclass(frozen=True)
class Rendezvous:
    """Holds the processes of a start, and the store that they share.

    Attributes:
        rank, world: rank of this process, and number of processes.
        hosts: the machine of each rank.
        store: a store that only this start uses.
        side: the same store through a second connection, which collectives do not block.
    """

    rank: int
    world: int
    hosts: list[str]
    store: Store
    side: Store


def meet(timeout: float) -> Rendezvous:
    """Waits for the other processes at MASTER_ADDR:MASTER_PORT.

    Args:
        timeout: in seconds.

    Raises:
        LostProcessError: a process has not joined in this time; the message names it.
    """
    late = f"within {timeout:g} s (SOLVER.TIMEOUT)"
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    end = time.monotonic() + timeout
    try:
        store = _connect(world, timeout, serves=rank == 0 and not _agent_serves())
        name, hosts = _agree(store, rank, world, end)
        side = _connect(world, timeout, serves=False)
    except DistError as error:
        raise LostProcessError(
            f"no answer from {place()}, where the processes meet, {late}"
        ) from error
    except _Absent as absent:
        raise LostProcessError(f"{absent} did not connect to {place()} {late}") from None
    return Rendezvous(rank, world, hosts, PrefixStore(name, store), PrefixStore(name, side))


def place() -> str:
    """Gives the address of the store."""
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _agent_serves() -> bool:
    """Returns True if torchrun's agent, and not the first process, holds the store."""
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
    """Agrees with the other processes on a name for this start; also gives the hosts by rank.

    torchrun's store survives a restart and still holds addresses of the previous start. torchrun
    names a start by the number of restarts, which can differ between machines. Some processes would
    then wait under the new name, and others would use old addresses. So each process writes a
    random number, and the name is a hash of all numbers. All have agreed when the names of all
    processes are equal.

    Args:
        end: monotonic time at which waiting ends.

    Raises:
        _Absent: processes have not joined in time.
    """
    hellos = [f"hello/{r}" for r in range(world)]
    names = [f"name/{r}" for r in range(world)]
    store.set(hellos[rank], f"{uuid.uuid4().hex} {socket.gethostname()}")
    agreed = [False] * world
    while time.monotonic() < end:
        if store.check(hellos):
            messages = store.multi_get(hellos)
            name = hashlib.sha256(b"\n".join(messages)).hexdigest()
            store.set(names[rank], name)
            all_names = store.multi_get(names) if store.check(names) else []
            agreed = [x.decode() == name for x in all_names] or agreed
            if all_names and all(agreed):
                return name, [x.decode().split(" ", 1)[1] for x in messages]
        time.sleep(_PAUSE)
    absent = [r for r in range(world) if not store.check([hellos[r]])]
    late = absent or [r for r in range(world) if not agreed[r] and r != rank]
    raise _Absent(f"{_ranks(late)} of {world}")


def _ranks(ranks: list[int]) -> str:
    first = ", ".join(map(str, ranks[:10])) + (", ..." if len(ranks) > 10 else "")
    return f"rank {first}"
