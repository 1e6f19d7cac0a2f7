"""What the tools share: arguments, and mistakes of the user in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from dynamic_atss.engine.interrupt import end_process, on_sigterm
from dynamic_atss.errors import UserError
from dynamic_atss.system_limits import limit_reached


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, like any other of the user, in place of the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"command line: {message}; --help lists what is accepted")


def config_parser(description: str) -> argparse.ArgumentParser:
    """`--config-file FILE ... KEY VALUE KEY VALUE ...`.

    `--local-rank` is what python -m torch.distributed.launch passes.
    """
    parser = Parser(description=description)
    parser.add_argument("--config-file", default="", metavar="FILE", help="a YAML file of configs/")
    parser.add_argument(
        "--allow-code", action="store_true", help="run the code that the YAML file names"
    )
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override keys of the config")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; LOCAL_RANK is set for launchers that only pass `--local-rank`."""
    args = parser.parse_intermixed_args()  # flags may stand behind KEY VALUE pairs, too
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return args


def run(main: Callable[[], int | None]) -> None:
    """Calls `main` and exits with its code; a UserError becomes one line and exit code 2."""
    # Tensors on a CPU in pages of 2 MB: a train step has a tenth of the page faults. Read by torch
    # when it allocates for the first time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        with on_sigterm(end_process):
            code = main()
    except UserError as error:
        # A user's code may be quoted, whose messages have several lines.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if (told := limit_reached(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr, flush=True)
        code = 2
    sys.exit(code or 0)
