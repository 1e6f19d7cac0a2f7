"""Measures each assignment rule: milliseconds, peak memory, and waits of the host for the GPU.

    python -m on_gpu.rules --device cuda [--boxes 100] [--batch 16] --json FILE

The file is written after each rule. A rule that fails is reported, and the others still run.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from typing import Any

import torch
from assignment import scene
from common import Row, alternate, parser, peak_memory, waits

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.ops import library
from dynamic_atss.types import to_device


def row(rule: str, args: argparse.Namespace) -> dict[str, Any]:
    inputs = [to_device(part, args.device) for part in scene(args.boxes, args.batch)]
    assigner = ASSIGNERS[rule]()

    def call() -> Any:
        return assigner(*inputs)

    positives = int(call().positive.sum())
    assert positives, f"{rule}: no prior learns any box"
    note = f"{positives} positives"
    if args.device == "cuda":
        note += f", {waits(call)} waits"
    (seconds,) = alternate([call], args.seconds, args.device)
    case = f"{rule}, {args.boxes} boxes x {args.batch}"
    made = Row("assignment, each rule", case, seconds, note=note, device=args.device)
    megabytes = peak_memory(call, args.device) / 1e6
    serves = library.load()[args.device]
    return {**made.to_dict(), "ours_mb": megabytes, "operators": serves}


def main() -> int:
    options = parser(__doc__ or "")
    options.add_argument("--boxes", type=int, default=100, help="boxes in each image")
    options.add_argument("--batch", type=int, default=16, help="number of images")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    library.load()
    rows, failed = [], []
    for rule in ASSIGNERS:
        try:
            rows.append(row(rule, args))
            print(rows[-1], flush=True)
        except Exception:  # any error: the other rules still run
            traceback.print_exc()
            failed.append(rule)
        write(args, rows)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


def write(args: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    if args.json:
        args.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    sys.exit(main())
