"""torchrun that ends as its processes do, without a traceback: with the one line and exit code 2
after a mistake, with 128 + the signal after one that asked it to end.

python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml

All arguments are torchrun's. It hands SIGUSR1 and SIGUSR2 on, too, and gives the processes five
minutes for their last checkpoint (PET_SHUTDOWN_TIMEOUT: seconds). A second Ctrl-C ends all at once.
Exit code 75: a process or a machine has gone or stands still; begin again with --resume. After a
mistake, --max-restarts does not begin again. What else fails is reported as by torchrun.
"""

import os
import signal
import sys
from collections.abc import Iterable

# Without the C++ stack of each call to a machine that has gone; read when torch is imported.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

from dynamic_atss.engine import agent
from dynamic_atss.engine.interrupt import second_sigint_ends

MISTAKE = 2  # the exit code of a process after a mistake, which one of them has told
LOST = 75  # of one that has told that another has gone or stands still
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


HELP = """launch.py is torchrun: it starts several processes of a tool, and tells a mistake once.
Example: python tools/launch.py --nproc-per-node 8 tools/train_net.py --config-file configs/X.yaml
The options below are torchrun's. Those of the tool come after its name, its --help too.
"""


def main() -> None:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(HELP, flush=True)  # torchrun goes on
    agent.prepare()
    # nohup ignores SIGHUP, and torchrun would hear it all the same.
    heard = [x for x in SIGNALS if signal.getsignal(getattr(signal, x)) is not signal.SIG_IGN]
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(heard))
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "300")
    try:
        with second_sigint_ends(agent.kill_workers):
            run.main()
    except ChildFailedError as error:
        code = code_of(failure.exitcode for failure in error.failures.values())
        if not code:
            raise
        sys.exit(code)
    except RendezvousError as error:
        print(f"error: the launchers do not meet: {error}", file=sys.stderr)
        sys.exit(LOST)
    except SignalException as caught:
        sys.exit(128 + caught.sigval)


def code_of(codes: Iterable[int]) -> int:
    """The exit code of all, from those of the processes; 0 if one of them crashed."""
    codes = [128 - code if code < 0 else code for code in codes]  # ended by the signal itself
    for told in (MISTAKE, LOST):
        if told in codes:
            return told
    asked = {128 + getattr(signal, name) for name in SIGNALS}
    return codes[0] if asked.issuperset(codes) else 0


if __name__ == "__main__":
    main()
