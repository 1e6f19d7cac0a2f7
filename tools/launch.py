"""torchrun; a mistake ends with its one line and exit code 2, without the launcher's traceback.

python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml

All arguments are torchrun's. After a mistake --max-restarts starts nothing anew, which would meet
the same mistake. Exit code 75: a process has gone or stood still, and --resume goes on. What else
fails in a process is reported as by torchrun.
"""

import logging
import os
import signal
import sys

# Without the C++ stack of each call to a machine that has gone; read when torch is imported.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.launcher import api

MISTAKE = 2  # the exit code of a process after a mistake, which one of them has told
LOST = 75  # of one that has told that another has gone


class Agent(LocalElasticAgent):
    """Starts nothing anew after a mistake."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if MISTAKE in {failure.exitcode for failure in result.failures.values()}:
            self._remaining_restarts = 0
        return result


def main() -> None:
    # Which process it stops and why, and what it does not reach: the errors below tell the same.
    for name in ("multiprocessing.api", "rendezvous.dynamic_rendezvous"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    # A store for each start, held by its first process: the one that torchrun keeps is not found
    # by machines that stay where the first of them is another one than before.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    api.LocalElasticAgent = Agent  # type: ignore[misc]
    try:
        run.main()
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        if not {MISTAKE, LOST} & set(codes.values()):
            raise
        if MISTAKE in codes.values():
            sys.exit(MISTAKE)
        _tell_others(codes)
        sys.exit(LOST)
    except RendezvousError as error:
        # The machine that holds the rendezvous, or the others, are gone or do not come.
        print(f"error: the launchers do not meet: {error}", file=sys.stderr)
        sys.exit(LOST)
    except SignalException as signal_:
        sys.exit(128 + signal_.sigval)


def _tell_others(codes: dict[int, int]) -> None:
    """How those ended that could not tell."""
    for rank, code in codes.items():
        if code < 0:
            print(f"rank {rank} was ended by {signal.Signals(-code).name}", file=sys.stderr)


if __name__ == "__main__":
    main()
