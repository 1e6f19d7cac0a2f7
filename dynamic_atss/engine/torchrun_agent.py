"""Adapts torchrun's agent, which starts the processes of a machine, for `dynamic-atss launch`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.launcher import api

from dynamic_atss.engine.first_report import MISTAKE


class Agent(LocalElasticAgent):
    """Starts the processes like torchrun's agent, but not again after a user's mistake.

    The mistake would occur again.
    """

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if MISTAKE in {failure.exitcode for failure in result.failures.values()}:
            self._remaining_restarts = 0
        return result


def prepare() -> None:
    """Makes torchrun use this agent in this process."""
    api.LocalElasticAgent = Agent  # type: ignore[misc]
    # Each start gets a store, held by its first process. After a restart with another first
    # machine, the remaining machines would not find the store that torchrun keeps.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    # These loggers only repeat what torchrun's exceptions say.
    for name in ("multiprocessing.api", "rendezvous.dynamic_rendezvous"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)


def kill_workers(_: int) -> None:
    """Kills the processes that torchrun has started, each with its process group."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)
