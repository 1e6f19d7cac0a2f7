"""Kills training runs with SIGKILL at random moments, resumes them, and compares the ends.

python benchmarks/kill_and_resume.py --config-file configs/X.yaml [--times 10] [--kills 1]
    [--work-dir output/kill_and_resume] [KEY VALUE ...]

The ends have to be bitwise the same: it is one machine, and each process has one thread. Each time
is a new run that is killed `--kills` times: after a random number of lines of its metrics, none to
all, and a random moment up to a quarter of a second.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dynamic_atss import cli
from dynamic_atss.files import read_metrics

TRAIN = Path(__file__).resolve().parents[1] / "tools" / "train_net.py"
MEASURED = ("time", "data_time", "max_mem_mb")


def start(args: Sequence[str]) -> subprocess.Popen[bytes]:
    """A training process of one thread: the last bits depend on the number of threads."""
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *args],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def finish(args: Sequence[str]) -> float:
    """A run to its end; seconds. Raises CalledProcessError for any exit code but 0."""
    begin = time.perf_counter()
    process = start(args)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, args)
    return time.perf_counter() - begin


def killed_run(
    args: Sequence[str], output: Path, lines: Sequence[int], rng: random.Random
) -> list[str]:
    """A run killed after each of `lines` of its metrics and resumed; where it was each time."""
    places = []
    for count in lines:
        process = start([*args, "--resume", "OUTPUT_DIR", str(output)])
        while process.poll() is None and len(read_metrics(output / "metrics.jsonl")) < count:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.25))
        ended = process.poll() is not None
        process.kill()
        process.wait()
        places.append(f"{'ended' if ended else 'killed'} at {_place(output)}")
    finish([*args, "--resume", "OUTPUT_DIR", str(output)])
    return places


def differences(first: Path, second: Path) -> list[str]:
    """What differs between two finished runs: state of the checkpoint, metrics, detections."""
    files = [torch.load(run / "model_final.pth", weights_only=True) for run in (first, second)]
    found = _different(files[0], files[1], "model_final.pth")
    lines = [
        [_reproducible(r) for r in read_metrics(run / "metrics.jsonl")] for run in (first, second)
    ]
    found += ["metrics.jsonl"] if lines[0] != lines[1] else []
    for path in first.glob("inference/**/*.json"):
        other = second / path.relative_to(first)
        if not other.is_file() or json.loads(path.read_text()) != json.loads(other.read_text()):
            found.append(str(path.relative_to(first)))
    return found


def _different(a: Any, b: Any, name: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        parts = [(a[key], b[key], f"{name}[{key!r}]") for key in a if key not in _TIMES]
        return [found for part in parts for found in _different(*part)]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        parts = [(x, y, f"{name}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
        return [found for part in parts for found in _different(*part)]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    return [] if type(a) is type(b) and a == b else [name]


_TIMES = ("seconds", "data_time")  # of the log's window


def _reproducible(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in MEASURED}


def _place(output: Path) -> str:
    last = output / "last_checkpoint"
    lines = read_metrics(output / "metrics.jsonl")
    logged = lines[-1]["iteration"] if lines else 0
    saved = last.read_text().strip() if last.is_file() else "no checkpoint"
    return f"iteration {logged} ({saved})"


def main() -> int:
    parser = cli.config_parser(__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10, help="runs to kill")
    parser.add_argument("--kills", type=int, default=1, help="of each run")
    parser.add_argument("--work-dir", type=Path, default=Path("output/kill_and_resume"))
    args = cli.parse(parser)
    common = ["--config-file", args.config_file, *args.opts]
    whole = args.work_dir / "uninterrupted"
    seconds = finish([*common, "OUTPUT_DIR", str(whole)])
    print(f"uninterrupted: {seconds:.1f} s", flush=True)
    rng = random.Random(0)
    total = len(read_metrics(whole / "metrics.jsonl"))
    failures = 0
    for number in range(args.times):
        output = args.work_dir / f"killed_{number}"
        lines = sorted(rng.randint(0, total) for _ in range(args.kills))
        places = killed_run(common, output, lines, rng)
        found = differences(whole, output)
        failures += bool(found)
        verdict = f"DIFFERENT: {', '.join(found[:5])}" if found else "bitwise the same"
        print(f"{', '.join(places)}: {verdict}", flush=True)
    print(f"{args.times - failures} of {args.times} runs ended bitwise the same")
    return int(failures > 0)


if __name__ == "__main__":
    cli.run(main)
