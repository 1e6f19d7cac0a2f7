"""torchrun that ends as its processes do, without a traceback: with the one line and exit code 2
after a mistake, with 128 + the signal after one that asked it to end.

dynamic-atss launch --nproc-per-node 8 train --config-file configs/X.yaml

All arguments are torchrun's; a command of dynamic-atss may stand in place of a file. It hands
SIGUSR1 and SIGUSR2 on, too, and gives the processes five minutes for their last checkpoint
(PET_SHUTDOWN_TIMEOUT: seconds). A second Ctrl-C ends all at once. Exit code 75: a process or a
machine has gone or stands still; begin again with --resume. After a mistake, --max-restarts does
not begin again. What else fails is reported as by torchrun.
"""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

# Without the C++ stack of each call to a machine that has gone; read when torch is imported.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

from dynamic_atss import cli
from dynamic_atss.commands import COMMANDS, advice
from dynamic_atss.engine import agent
from dynamic_atss.engine.interrupt import second_sigint_ends
from dynamic_atss.errors import UserError

MISTAKE = 2  # the exit code of a process after a mistake, which one of them has told
LOST = 75  # of one that has told that another has gone or stands still
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


HELP = """This is torchrun: it starts several processes of a command, and tells a mistake once.
Example: dynamic-atss launch --nproc-per-node 8 train --config-file configs/X.yaml
The options below are torchrun's. Those of the command come after its name, its --help too.
"""


def main() -> int:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(cli.as_typed(HELP), flush=True)  # torchrun goes on
    agent.prepare()
    # nohup ignores SIGHUP, and torchrun would hear it all the same.
    heard = [x for x in SIGNALS if signal.getsignal(getattr(signal, x)) is not signal.SIG_IGN]
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(heard))
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "300")
    try:
        with second_sigint_ends(agent.kill_workers):
            run.main(with_module(sys.argv[1:]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(MISTAKE)
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
    return 0


def with_module(words: list[str]) -> list[str]:
    """torchrun's arguments, with `-m dynamic_atss` before a command of that.

    Raises:
        UserError: what is to be started is neither a file nor a command.
    """
    args = run.get_args_parser().parse_args(words)
    at = len(words) - len(args.training_script_args) - 1
    if args.module or args.no_python or Path(words[at]).is_file():
        return words
    if words[at] not in COMMANDS:
        raise UserError(f"command line: {words[at]}: no such file; {advice(words[at])}")
    return [*words[:at], "-m", "dynamic_atss", *words[at:]]


def code_of(codes: Iterable[int]) -> int:
    """The exit code of all, from those of the processes; 0 if one of them crashed."""
    codes = [128 - code if code < 0 else code for code in codes]  # ended by the signal itself
    for told in (MISTAKE, LOST):
        if told in codes:
            return told
    asked = {128 + getattr(signal, name) for name in SIGNALS}
    return codes[0] if asked.issuperset(codes) else 0
