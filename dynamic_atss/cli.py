"""What the commands share: arguments, and mistakes of the user in one line."""

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

from dynamic_atss.engine.interrupt import (
    STOP_CODES,
    ignore,
    on_signals,
    second_sigint_ends,
    stop_now,
)
from dynamic_atss.engine.told import MISTAKE, code_of_another, ends_first, tell, wait_until_told
from dynamic_atss.errors import Lost, UserError, own_place
from dynamic_atss.processes import end_at_once, end_with_launcher
from dynamic_atss.quoting import LONGEST, printable
from dynamic_atss.system_limits import limit_reached

if TYPE_CHECKING:
    from yacs.config import CfgNode

_ANY_KEYS = ("DATALOADER.NUM_WORKERS", "MODEL.DEVICE", "DTYPE", "OUTPUT_DIR")
TRAINING_KEYS = (
    *("DATASETS.TRAIN", "DATASETS.TEST", "MODEL.WEIGHT", "MODEL.HEAD.NAME", "MODEL.ASSIGNER.NAME"),
    "MODEL.ONE_TO_ONE.NAME",
    *("MODEL.BACKBONE.CONV_BODY", "INPUT.MIN_SIZE_TRAIN", "INPUT.MAX_SIZE_TRAIN"),
    *("SOLVER.IMS_PER_BATCH", "SOLVER.ACCUMULATE", "SOLVER.BASE_LR", "SOLVER.MAX_ITER"),
    *("SOLVER.STEPS", "SOLVER.SCHEDULE", "SOLVER.OPTIMIZER", "SOLVER.EMA_DECAY"),
    *("SOLVER.CHECKPOINT_PERIOD", "SOLVER.LOG_PERIOD", "TEST.PERIOD", "SEED", *_ANY_KEYS),
)
TEST_KEYS = (
    *("DATASETS.TEST", "MODEL.WEIGHT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
    *("TEST.IMS_PER_BATCH", "TEST.DETECTIONS_PER_IMG", "TEST.NMS", "MODEL.ONE_TO_ONE.PREDICTS"),
    *("TEST.BBOX_AUG.ENABLED", *_ANY_KEYS),
)


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, like any other of the user, in place of the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"command line: {message}; --help lists what is accepted")


def parser_with_examples(text: str | None) -> Parser:
    """text: what the command does; examples follow after a blank line."""
    description, _, examples = (text or "").partition("\n\n")
    return Parser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_parser(text: str, keys: Sequence[str] = ()) -> argparse.ArgumentParser:
    """`--config-file FILE ... KEY VALUE KEY VALUE ...`.

    `--local-rank` is what python -m torch.distributed.launch passes.

    text: what the command does; examples may follow after a blank line · keys: those that --help
    explains
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
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="set keys of the configuration"
    )
    return parser


def as_typed(text: str) -> str:
    """The examples in `text` as one types them who has called a file of tools/."""
    tool = Path(sys.argv[0])
    if tool.suffix != ".py":
        return text
    text = re.sub(r"-m dynamic_atss \w+", f"tools/{tool.name}", text)
    return re.sub(r"\bdynamic-atss \w+", f"python tools/{tool.name}", text)


def _epilog(examples: str, keys: Sequence[str]) -> list[str]:
    from dynamic_atss.config import describe  # which needs packages, unlike the rest of this file

    parts = []
    if examples:
        parts.append("examples:\n" + textwrap.indent(examples.rstrip(), "  "))
    if keys:
        parts.append(f"keys that are used most:\n{_table(keys, describe.keys())}")
        parts.append(f"All keys, one line each: {describe.defaults.__file__}")
    return parts


def _table(keys: Sequence[str], known: Mapping[str, Any]) -> str:
    """Each key with its default and its meaning, as wide as the terminal."""
    width = max(min(shutil.get_terminal_size().columns, 120), 80)
    column = max(map(len, keys)) + 4
    style = textwrap.TextWrapper(width, subsequent_indent=" " * column, break_on_hyphens=False)
    texts = {key: f"{known[key].meaning} [{known[key].default}]" for key in keys}
    return "\n".join(style.fill(f"  {key:<{column - 2}}{text}") for key, text in texts.items())


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; LOCAL_RANK is set for launchers that only pass `--local-rank`."""
    args = parser.parse_intermixed_args()  # flags may stand behind KEY VALUE pairs, too
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def configuration(args: argparse.Namespace) -> CfgNode:
    """That of `--config-file`, if it is given, and of KEY VALUE; a line tells where the file is
    taken from the package."""
    from dynamic_atss.config.files import config_path
    from dynamic_atss.config.load import load_config

    path = config_path(args.config_file) if args.config_file else None
    if path not in (None, Path(args.config_file)) and os.environ.get("RANK", "0") == "0":
        print(f"{args.config_file}: not in this folder, taken from {path}", file=sys.stderr)
    return load_config(path, args.opts, allow_code=args.allow_code)


def run(main: Callable[[], int | None]) -> None:
    """Calls `main` and exits with its code; a UserError becomes one line and its exit code, a
    signal that asks the process to end 128 + its number.

    Of several processes one prints the line, and all exit with the same code.
    """
    # Tensors on a CPU in pages of 2 MB: a train step has a tenth of the page faults. Read by torch
    # when it allocates for the first time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Without the stack of each call to a store that has gone: one line tells who has.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks does not end the run
            stream.reconfigure(errors="backslashreplace")
    end_with_launcher()
    with second_sigint_ends(ends_first), on_signals(stop_now):
        code = _code_of(main)
        with on_signals(ignore):  # the end itself is in order, too
            if code in STOP_CODES:
                ends_first(code)
            if code and os.environ.get("WORLD_SIZE", "1") != "1":
                end_at_once(code)
            sys.exit(code)


def _code_of(main: Callable[[], int | None]) -> int:
    """The exit code of `main`; its mistakes are told."""
    try:
        return _told(main)
    except SystemExit as ended:
        if isinstance(ended.code, str):  # Python prints it
            raise
        if ended.code in (MISTAKE, Lost.exit_code):
            wait_until_told()
        return ended.code or 0


def _told(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except UserError as error:
        # A user's code may be quoted, whose messages have several lines.
        tell(f"error: {' '.join(str(error).split())}", error.exit_code)
        return error.exit_code
    except Exception as error:
        if code := code_of_another():
            return code
        line = limit_reached(error) or _of_a_name(error) or _of_own_code(error, main)
        if line is None:
            raise
        tell(f"error: {line}")
    return MISTAKE


def _of_a_name(error: Exception) -> str | None:
    """The line for a path that no file can have; None for another error."""
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return printable(f"{error.filename!s:.{LONGEST}}: {error.strerror}: correct the path")
    return None


def _of_own_code(error: Exception, main: Callable[[], int | None]) -> str | None:
    """The line for an error that was raised in, or below, code of the user's, whose traceback goes
    to log.txt. None for another error, or without a log.txt: the traceback is shown."""
    from dynamic_atss.engine.logger import log_to_file  # which needs packages, too

    place = own_place(error, but=main.__code__.co_filename)  # the tool is no code of the user's
    what = " ".join(f"{type(error).__name__}: {error}".split())
    log = log_to_file("error in code of your own", error) if place else ""
    return f"{place}, code of your own, fails ({what}); the traceback is in {log}" if log else None
