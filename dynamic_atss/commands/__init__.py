"""Defines the program `dynamic-atss`. Each command is a module here, imported only when called.

To add a command, write a module with `main() -> int`, which reads `sys.argv[1:]`, and add a line
to COMMANDS.
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
    "predict": "detect in pictures, folders and videos, and draw the detections",
    "export": "write a detector as ONNX, or as a file that needs only torch",
    "inspect": "see which priors learn which box, and why",
    "compare": "train with several rules and seeds, or read finished runs, and compare them",
    "check": "check data sets before a training",
    "show": "draw training images as the network gets them",
    "convert": "convert a checkpoint from and to other formats",
    "launch": "start train or test in several processes, on one or more machines",
}


def main() -> None:
    """Runs a command for the console script and for `python -m dynamic_atss`."""
    if sys.argv[1:2] == ["launch"]:  # handles signals and exit codes as torchrun does
        _call()
    else:
        cli.run(_call)


def _call() -> int:
    """Runs the command that `sys.argv` names and returns its exit code.

    Raises:
        UserError: there is no such command.
    """
    name, arguments = sys.argv[1] if sys.argv[1:] else "--help", sys.argv[2:]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"command line: {name}: no command of {PROGRAM}; {advice(name)}")
    sys.argv = [f"{PROGRAM} {name}", *arguments]  # argparse shows the first entry in the usage
    return import_module(f"{__name__}.{name}").main()


def advice(name: str) -> str:
    """Says what to type instead of the unknown command `name`."""
    return hint(name, COMMANDS, "the nearest is {}") or f"give one of {', '.join(COMMANDS)}"


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in COMMANDS.items()]
    usage = f"usage: {PROGRAM} COMMAND ...   ({PROGRAM} COMMAND --help explains it)"
    return "\n".join([usage, "", *lines, "", "options:", "  --version, --help"])
