"""torchrun that ends as its processes do, without a traceback: with the one line and exit code 2
after a mistake, with 128 + the signal after one that asked it to end.

python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml

All arguments are torchrun's. It hands SIGUSR1 and SIGUSR2 on, too, and gives the processes five
minutes for their last checkpoint (PET_SHUTDOWN_TIMEOUT: seconds). A second Ctrl-C ends all at once.
What else fails in a process is reported as by torchrun.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from dynamic_atss.engine.interrupt import second_sigint_ends

MISTAKE = 2  # the exit code of a process after a mistake, which one of them has told
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


HELP = """launch.py is torchrun: it starts several processes of a tool, and tells a mistake once.
Example: python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml
The options below are torchrun's. Those of the tool come after its name, its --help too.
"""


def main() -> None:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(HELP, flush=True)  # torchrun goes on
    # Which process it stops and why: ChildFailedError tells the same.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    # nohup ignores SIGHUP, and torchrun would hear it all the same.
    heard = [x for x in SIGNALS if signal.getsignal(getattr(signal, x)) is not signal.SIG_IGN]
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(heard))
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "300")
    try:
        with second_sigint_ends(kill_workers):
            run.main()
    except ChildFailedError as error:
        code = code_of(failure.exitcode for failure in error.failures.values())
        if not code:
            raise
        sys.exit(code)
    except SignalException as caught:
        sys.exit(128 + caught.sigval)


def code_of(codes: Iterable[int]) -> int:
    """The exit code of all, from those of the processes; 0 if one of them crashed."""
    codes = [128 - code if code < 0 else code for code in codes]  # ended by the signal itself
    if MISTAKE in codes:
        return MISTAKE
    asked = {128 + getattr(signal, name) for name in SIGNALS}
    return codes[0] if asked.issuperset(codes) else 0


def kill_workers(_: int) -> None:
    """Each is the first of a group of processes."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    main()
