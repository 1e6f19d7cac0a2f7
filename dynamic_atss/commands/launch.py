"""Runs torchrun, and ends with the exit code of its processes and without a traceback.

dynamic-atss launch --nproc-per-node 8 train --config-file configs/X.yaml

The arguments are those of torchrun; a command of dynamic-atss may replace the file. Unlike
torchrun, it passes SIGUSR1 and SIGUSR2 on. It gives the processes five minutes to save their last
checkpoint (PET_SHUTDOWN_TIMEOUT sets the seconds). A second Ctrl-C ends all processes at once.

Exit codes: 2 after a user's mistake, which is printed once and not retried by --max-restarts; 75
when a process or a machine is lost or does not answer (start again with --resume); 128 + N after
signal N. Other failures are reported by torchrun.
"""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

# This hides the C++ stack of each call to a lost machine. Torch reads it at its import.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

from dynamic_atss import cli
from dynamic_atss.commands import COMMANDS, advice
from dynamic_atss.engine import torchrun_agent
from dynamic_atss.engine.interrupt import second_sigint_ends
from dynamic_atss.errors import UserError

MISTAKE = 2  # exit code of all processes after a user's mistake, which one of them has printed
LOST = 75  # exit code of a process that has reported that another is lost or does not answer
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


HELP = """Starts several processes of a command by torchrun, and prints a mistake only once.
Example: dynamic-atss launch --nproc-per-node 8 train --config-file configs/X.yaml
The options below are torchrun's. Options of the command, such as its --help, follow its name.
"""


def main() -> int:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(cli.as_typed(HELP), flush=True)  # torchrun prints its options after it
    torchrun_agent.prepare()
    # A signal that is ignored, such as SIGHUP under nohup, stays ignored. torchrun would handle it.
    handled = [x for x in SIGNALS if signal.getsignal(getattr(signal, x)) is not signal.SIG_IGN]
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", ",".join(handled))
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "300")
    try:
        with second_sigint_ends(torchrun_agent.kill_workers):
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
        print(f"error: the launchers cannot reach each other: {error}", file=sys.stderr)
        sys.exit(LOST)
    except SignalException as caught:
        sys.exit(128 + caught.sigval)
    return 0


def with_module(words: list[str]) -> list[str]:
    """Inserts `-m dynamic_atss` into torchrun's arguments before a command of dynamic-atss.

    Raises:
        UserError: the program to start is neither a file nor a command.
    """
    args = run.get_args_parser().parse_args(words)
    index = len(words) - len(args.training_script_args) - 1
    program = words[index]
    if args.module or args.no_python or Path(program).is_file():
        return words
    if program not in COMMANDS:
        raise UserError(f"command line: {program}: no such file; {advice(program)}")
    return [*words[:index], "-m", "dynamic_atss", *words[index:]]


def code_of(codes: Iterable[int]) -> int:
    """Gives the exit code of the launcher from those of its processes; 0 if one crashed."""
    codes = [128 - code if code < 0 else code for code in codes]  # below 0: ended by a signal
    for reported in (MISTAKE, LOST):
        if reported in codes:
            return reported
    stop_codes = {128 + getattr(signal, name) for name in SIGNALS}
    return codes[0] if stop_codes.issuperset(codes) else 0
