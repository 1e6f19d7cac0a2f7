"""torchrun's agent, which starts the processes of a machine, as tools/launch.py has it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.launcher import api

from dynamic_atss.engine.told import MISTAKE


class Agent(LocalElasticAgent):
    """Does not begin again after a mistake, which would be met again."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if MISTAKE in {failure.exitcode for failure in result.failures.values()}:
            self._remaining_restarts = 0
        return result


def prepare() -> None:
    """torchrun uses this agent from now on, in this process."""
    api.LocalElasticAgent = Agent  # type: ignore[misc]
    # A store for each start, held by its first process: the one that torchrun keeps is not found
    # by machines that stay where the first of them is another one than before.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    # Which process it stops and why, and what it does not reach: its exceptions tell the same.
    for name in ("multiprocessing.api", "rendezvous.dynamic_rendezvous"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)


def kill_workers(_: int) -> None:
    """Ends the processes that torchrun has started; each is the first of a group."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)
