"""Measures each assignment rule: milliseconds, peak memory, and waits of the host for the GPU.

    python -m on_gpu.rules --device cuda [--boxes 10 100 1000] [--batch 16] --json FILE

The file is written after each rule. A rule that fails is reported, and the others still run.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from typing import Any

import torch
from assignment import scene
from common import Row, alternate, failed_row, parser, peak_memory, waits, write_json

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.ops import library
from dynamic_atss.types import to_device

STAGE = "assignment, each rule"


def row(rule: str, boxes: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measures a rule. Raises AssertionError if no prior learns a box."""
    inputs = [to_device(part, args.device) for part in scene(boxes, args.batch)]
    assigner = ASSIGNERS[rule]()

    def call() -> Any:
        return assigner(*inputs)

    positives = int(call().positive.sum())
    assert positives, f"{rule}: no prior learns any box"
    note = f"{positives} positives"
    if args.device == "cuda":
        note += f", {waits(call)} waits"
    (seconds,) = alternate([call], args.seconds, args.device)
    case = f"{rule}, {boxes} boxes x {args.batch}"
    made = Row(STAGE, case, seconds, note=note, device=args.device)
    megabytes = peak_memory(call, args.device) / 1e6
    serves = library.load()[args.device]
    return {**made.to_dict(), "ours_mb": megabytes, "operators": serves}


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument(
        "--boxes", type=int, nargs="+", default=[10, 100, 1000], help="boxes in each image"
    )
    options.add_argument("--batch", type=int, default=16, help="number of images")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    library.load()
    rows, failed = [], []
    for boxes, rule in product(args.boxes, ASSIGNERS):
        try:
            rows.append(row(rule, boxes, args))
            print(rows[-1], flush=True)
        except Exception as error:  # any error: the other rules still run
            case = f"{rule}, {boxes} boxes x {args.batch}"
            rows.append(failed_row(STAGE, case, error, args.device))
            failed.append(case)
        write_json(args.json, rows)
    if failed:
        print(f"failed: {'; '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
