"""The command `dynamic-atss`: each of its words is a module here, imported when it is typed.

A new word is a module with `main() -> int`, which reads `sys.argv[1:]`, and a line of COMMANDS.
"""

from __future__ import annotations

import sys
from importlib import import_module

from dynamic_atss import cli
from dynamic_atss.errors import UserError
from dynamic_atss.suggest import hint
from dynamic_atss.version import __version__

PROGRAM = "dynamic-atss"
COMMANDS = {
    "train": "train a detector and score it",
    "test": "score a detector",
    "predict": "detect in pictures, folders and videos, and draw what is found",
    "inspect": "see which priors learn which box, and why",
    "compare": "train with several rules and seeds, or read finished runs, and compare them",
    "check": "look through data sets before a training",
    "convert": "convert a checkpoint from and to other formats",
    "launch": "start train or test in several processes, on one machine or more",
}


def main() -> None:
    """The console script, and `python -m dynamic_atss`."""
    if sys.argv[1:2] == ["launch"]:  # torchrun's way with signals and exit codes
        _call()
    else:
        cli.run(_call)


def _call() -> int:
    """The exit code of the command that is typed.

    Raises:
        UserError: there is no such command.
    """
    name, rest = sys.argv[1] if sys.argv[1:] else "--help", sys.argv[2:]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"command line: {name}: no command of {PROGRAM}; {advice(name)}")
    sys.argv = [f"{PROGRAM} {name}", *rest]  # whose first word argparse shows
    return import_module(f"{__name__}.{name}").main()


def advice(name: str) -> str:
    """What to type in place of an unknown command."""
    return hint(name, COMMANDS, "the nearest is {}") or f"give one of {', '.join(COMMANDS)}"


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in COMMANDS.items()]
    usage = f"usage: {PROGRAM} COMMAND ...   ({PROGRAM} COMMAND --help explains one)"
    return "\n".join([usage, "", *lines, "", "options:", "  --version, --help"])
