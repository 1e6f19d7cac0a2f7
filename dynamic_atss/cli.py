"""Parses the commands' arguments, and reports a user's mistake in one line."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dynamic_atss.engine.first_report import (
    MISTAKE,
    claim_report,
    report_end,
    reported_code,
    wait_for_report,
)
from dynamic_atss.engine.interrupt import (
    STOP_CODES,
    ignore,
    on_signals,
    second_sigint_ends,
    stop_now,
)
from dynamic_atss.errors import LostProcessError, UserError, user_place
from dynamic_atss.processes import end_at_once, end_with_launcher
from dynamic_atss.quoting import LONGEST, printable
from dynamic_atss.system_limits import limit_reached

if TYPE_CHECKING:
    from yacs.config import CfgNode

# The keys that --help lists.
_COMMON_KEYS = ("DATALOADER.NUM_WORKERS", "MODEL.DEVICE", "DTYPE", "OUTPUT_DIR")
TRAINING_KEYS = (
    "DATASETS.TRAIN",
    "DATASETS.TEST",
    "MODEL.WEIGHT",
    "MODEL.HEAD.NAME",
    "MODEL.ASSIGNER.NAME",
    "MODEL.ONE_TO_ONE.NAME",
    "MODEL.BACKBONE.CONV_BODY",
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.MAX_SIZE_TRAIN",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.ACCUMULATE",
    "SOLVER.BASE_LR",
    "SOLVER.MAX_ITER",
    "SOLVER.STEPS",
    "SOLVER.SCHEDULE",
    "SOLVER.OPTIMIZER",
    "SOLVER.EMA_DECAY",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.LOG_PERIOD",
    "TEST.PERIOD",
    "SEED",
    *_COMMON_KEYS,
)
TEST_KEYS = (
    "DATASETS.TEST",
    "MODEL.WEIGHT",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "TEST.IMS_PER_BATCH",
    "TEST.DETECTIONS_PER_IMG",
    "TEST.NMS",
    "MODEL.ONE_TO_ONE.PREDICTS",
    "TEST.BBOX_AUG.ENABLED",
    *_COMMON_KEYS,
)


class Parser(argparse.ArgumentParser):
    """Raises UserError for a wrong argument, where argparse would print the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"command line: {message}; --help lists the options")


def parser_with_examples(text: str | None) -> Parser:
    """Makes a parser from a text: a description, a blank line, and examples."""
    description, _, examples = (text or "").partition("\n\n")
    return Parser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_parser(text: str, keys: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Makes a parser of `--config-file FILE ... KEY VALUE KEY VALUE ...`.

    Args:
        text: the description; examples may follow after a blank line.
        keys: the configuration keys that --help explains.
    """
    description, _, examples = as_typed(text).partition("\n\n")
    parser = Parser(
        description=description,
        epilog="\n\n".join(_epilog(examples, keys)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="a YAML file of configs/")
    parser.add_argument(
        "--allow-code", action="store_true", help="run the code that the YAML file names"
    )
    # python -m torch.distributed.launch passes it.
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="set keys of the configuration"
    )
    return parser


def as_typed(text: str) -> str:
    """Rewrites the examples in `text` for a file of tools/, if the user called one."""
    tool = Path(sys.argv[0])
    if tool.suffix != ".py":
        return text
    text = re.sub(r"-m dynamic_atss \w+", f"tools/{tool.name}", text)
    return re.sub(r"\bdynamic-atss \w+", f"python tools/{tool.name}", text)


def _epilog(examples: str, keys: Sequence[str]) -> list[str]:
    from dynamic_atss.config import describe  # needs yacs; the rest of this file needs no package

    parts = []
    if examples:
        parts.append("examples:\n" + textwrap.indent(examples.rstrip(), "  "))
    if keys:
        parts.append(f"keys that are used most:\n{_table(keys, describe.keys())}")
        parts.append(f"All keys, one line each: {describe.defaults.__file__}")
    return parts


def _table(keys: Sequence[str], known: Mapping[str, Any]) -> str:
    """Lists each key with its meaning and default, wrapped to the width of the terminal."""
    width = max(min(shutil.get_terminal_size().columns, 120), 80)
    indent = max(map(len, keys)) + 4
    wrapper = textwrap.TextWrapper(width, subsequent_indent=" " * indent, break_on_hyphens=False)
    texts = {key: f"{known[key].meaning} [{known[key].default}]" for key in keys}
    return "\n".join(wrapper.fill(f"  {key:<{indent - 2}}{text}") for key, text in texts.items())


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the arguments. Sets LOCAL_RANK for launchers that pass only `--local-rank`."""
    args = parser.parse_intermixed_args()  # also accepts flags after KEY VALUE pairs
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def configuration(args: argparse.Namespace) -> CfgNode:
    """Loads `--config-file`, if there is one, with the KEY VALUE pairs.

    Prints the path if the file is one of the package, because the current folder has none of that
    name.
    """
    from dynamic_atss.config.files import config_path
    from dynamic_atss.config.load import load_config

    path = config_path(args.config_file) if args.config_file else None
    if path not in (None, Path(args.config_file)) and os.environ.get("RANK", "0") == "0":
        print(f"{args.config_file}: not in this folder, taken from {path}", file=sys.stderr)
    return load_config(path, args.opts, allow_code=args.allow_code)


def run(main: Callable[[], int | None]) -> None:
    """Calls `main` and exits with its code.

    Prints a UserError in one line and exits with its code. Exits with 128 + N after signal N.
    Of several processes only one prints the line, and all exit with the same code.
    """
    # This puts CPU tensors into pages of 2 MB, so that a train step has a tenth of the page faults.
    # Torch reads it at its first allocation.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # This hides the stacks of calls to a lost store. One line says which process is lost.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escapes characters that its encoding lacks
            stream.reconfigure(errors="backslashreplace")
    end_with_launcher()
    with second_sigint_ends(claim_report), on_signals(stop_now):
        code = _code_of(main)
        with on_signals(ignore):  # no further signal may disturb the exit
            if code in STOP_CODES:
                claim_report(code)
            if code and os.environ.get("WORLD_SIZE", "1") != "1":
                end_at_once(code)
            sys.exit(code)


def _code_of(main: Callable[[], int | None]) -> int:
    """Calls `main`, reports its errors and gives its exit code."""
    try:
        return _reported(main)
    except SystemExit as ended:
        if isinstance(ended.code, str):  # Python prints it
            raise
        if ended.code in (MISTAKE, LostProcessError.exit_code):
            wait_for_report()
        return ended.code or 0


def _reported(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except UserError as error:
        # An error of the user's code, which may have several lines, can be part of the message.
        report_end(f"error: {' '.join(str(error).split())}", error.exit_code)
        return error.exit_code
    except Exception as error:
        if code := reported_code():
            return code
        line = limit_reached(error) or _bad_path(error) or _user_code_error(error, main)
        if line is None:
            raise
        report_end(f"error: {line}")
    return MISTAKE


def _bad_path(error: Exception) -> str | None:
    """Gives the message for a path that is too long or a loop of links; None for another error."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return printable(f"{error.filename!s:.{LONGEST}}: {error.strerror}: correct the path")
    return None


def _user_code_error(error: Exception, main: Callable[[], int | None]) -> str | None:
    """Gives the message for an error that the user's code raised; its traceback goes to log.txt.

    Returns None for another error, and if there is no log.txt. Then Python prints the traceback.
    """
    from dynamic_atss.engine.logger import log_to_file  # needs tqdm

    place = user_place(error, excluded=main.__code__.co_filename)  # the tool is not user code
    text = " ".join(f"{type(error).__name__}: {error}".split())
    log = log_to_file("error in your code", error) if place else ""
    return f"{place}: your code fails ({text}); the traceback is in {log}" if log else None
