"""Builds, tests, trains and measures on a machine with a GPU.

It takes nine minutes and needs no network.

python tools/gpu_check.py [--wheels DIR] [--output output/gpu] [--stages checks]
python tools/gpu_check.py --stages speed
python tools/gpu_check.py --device cpu      # a dry run
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # the project need not be installed

from dynamic_atss import cli  # noqa: E402


def main() -> int:
    begin = time.monotonic()  # before the imports, which count as part of the time
    from on_gpu import check, table

    parser = cli.Parser(description="Build, test, train and measure on a GPU.")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="device; cpu: a dry run"
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="install packages from it")
    parser.add_argument("--output", type=Path, default=Path("output/gpu"), help="folder to write")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for all stages together")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=(*table.GROUPS, *table.NAMES),
        default=table.NAMES,
        metavar="STAGE",
        help=f"run only these, of: {' '.join((*table.GROUPS, *table.NAMES))}",
    )
    return check.check(parser.parse_args(), begin)


if __name__ == "__main__":
    cli.run(main)
