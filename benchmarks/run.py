"""Runs all benchmarks one after the other, each in a subprocess.

    python benchmarks/run.py [--quick] [--only focal nms ...] [--threads 2] [--device cpu cuda]
        [--images-folder datasets/coco/val2017] --output DIR

Writes DIR/results.json, DIR/results.md and a log of each stage. If a stage fails, it is reported,
the others still run, and the exit code is 1. The default devices are the CPU and, if there is one,
the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from machine import machine
from report import markdown

FOLDER = Path(__file__).resolve().parent
# Script -> whether it has work for a GPU.
STAGES = {
    "focal": True,
    "nms": True,
    "assignment": True,
    "image_loading": False,
    "evaluation": False,
    "background_scoring": False,
    "startup": False,
    "detectors": True,
    "stages": True,
    "growth": True,
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
Rows = list[dict[str, Any]]


def run_stage(stage: str, device: str, args: argparse.Namespace) -> tuple[Rows, bool]:
    """Runs a script; returns its rows, and whether it succeeded. Its log says why not."""
    name = f"{stage}_{device}"
    found, log = args.output / f"{name}.json", args.output / f"{name}.log"
    found.unlink(missing_ok=True)
    command = [sys.executable, str(FOLDER / f"{stage}.py"), "--json", str(found)]
    command += ["--threads", str(args.threads), "--device", device]
    command += ["--quick"] if args.quick else []
    command += ["--seconds", str(args.seconds)] if args.seconds is not None else []
    if stage == "image_loading" and args.images_folder:
        command += ["--folder", str(args.images_folder)]
    begin = time.perf_counter()
    print(f"{name} ... ", end="", file=sys.stderr, flush=True)
    with log.open("w") as file:
        code = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **dict.fromkeys(THREADS, str(args.threads))},
        ).returncode
    seconds = time.perf_counter() - begin
    rows: Rows = json.loads(found.read_text()) if found.is_file() else []
    succeeded = not code and found.is_file()
    found.unlink(missing_ok=True)
    said = f"{len(rows)} rows, {seconds:.0f} s"
    said = said if succeeded else f"FAILED after {seconds:.0f} s: see {log}"
    print(said, file=sys.stderr, flush=True)
    return rows, succeeded


def write(rows: Rows, failed: list[str], args: argparse.Namespace) -> None:
    on = machine(args.threads)
    content = {"machine": on, "command": sys.argv, "failed": failed, "rows": rows}
    (args.output / "results.json").write_text(json.dumps(content, indent=1))
    text = f"# Benchmarks\n\n`{' '.join(['python', *sys.argv])}`\n\n{markdown(rows, on)}"
    if failed:
        text += f"\nFailed: {', '.join(failed)}.\n"
    (args.output / "results.md").write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    present = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--quick", action="store_true", help="run fewer and smaller cases")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", nargs="+", choices=("cpu", "cuda"), default=present)
    parser.add_argument("--seconds", type=float, help="time to repeat each case")
    parser.add_argument("--images-folder", type=Path, help="folder of *.jpg for image_loading")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    check(args, parser.error)
    rows: Rows = []
    failed: list[str] = []
    try:
        for stage in args.only:
            for device in args.device if STAGES[stage] else ["cpu"]:
                failed.append(f"{stage} ({device})")  # until it succeeds
                found, succeeded = run_stage(stage, device, args)
                rows += found
                failed = failed[:-1] if succeeded else failed
                write(
                    rows, failed, args
                )  # after each stage, so that a killed run leaves its results
    except KeyboardInterrupt:
        write(rows, failed, args)
        print(f"stopped; {args.output} has what was finished", file=sys.stderr)
        return 130
    return int(bool(failed))


def check(args: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    """Checks that all stages can run, and makes the output folder, before minutes are spent."""
    if args.threads < 1:
        error(f"--threads {args.threads}: at least 1")
    if "cuda" in args.device and not torch.cuda.is_available():
        error("--device cuda: PyTorch sees no GPU here")
    if args.images_folder and not any(args.images_folder.glob("*.jpg")):
        error(f"--images-folder {args.images_folder}: no *.jpg in it")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        error(f"--output {args.output}: cannot be made ({problem.strerror})")


if __name__ == "__main__":
    sys.exit(main())
