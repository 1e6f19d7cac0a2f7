"""Kills training runs with SIGKILL at random moments, resumes them, and compares the results.

python benchmarks/kill_and_resume.py --config-file configs/X.yaml [--times 10] [--kills 1]
    [--processes 1] [--work-dir output/kill_and_resume] [KEY VALUE ...]

The results must be bitwise equal, as all runs use one machine and one thread in each process. Each
of `--times` runs is killed `--kills` times. It is killed after a random number of lines of its
metrics, up to a quarter of a second later or while a file is written. With several processes, a
random one or their launcher is killed. A minute after a kill, no other process may be left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from namespaces import processes_of

from dynamic_atss import cli
from dynamic_atss.files import read_metrics

TOOLS = Path(__file__).resolve().parents[1] / "tools"
TRAIN, LAUNCH = TOOLS / "train_net.py", TOOLS / "launch.py"
LEFT_SECONDS = 60.0  # after which no process may be left
WRITING = ".*.tmp*"  # files that are being written
MEASURED = ("time", "data_time", "max_mem_mb")


def start(args: Sequence[str], processes: int = 1) -> subprocess.Popen[bytes]:
    """Starts a training with one thread a process, because the last bits depend on the threads."""
    launcher = [str(LAUNCH), "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(launcher if processes > 1 else ()), str(TRAIN), *args],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def finish(args: Sequence[str], processes: int = 1) -> float:
    """Finishes a run; returns the seconds. Raises CalledProcessError for an exit code not 0."""
    begin = time.perf_counter()
    process = start(args, processes)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, args)
    return time.perf_counter() - begin


def killed_run(
    args: Sequence[str],
    output: Path,
    lines: Sequence[int],
    rng: random.Random,
    processes: int = 1,
) -> list[str]:
    """Kills and resumes a run after each of `lines` of its metrics; returns where it was killed.

    Raises RuntimeError if a process is left after a kill.
    """
    args = [*args, "--resume", "OUTPUT_DIR", str(output)]
    places = []
    for count in lines:
        process = start(args, processes)
        while process.poll() is None and len(read_metrics(output / "metrics.jsonl")) < count:
            time.sleep(0.01)
        how = _wait_for_a_moment(process, output, rng)
        event = "ended" if process.poll() is not None else f"{_kill(process, rng)} {how}"
        process.wait()
        places.append(f"{event} at {_place(output)}")
    finish(args, processes)
    return places


def _wait_for_a_moment(process: subprocess.Popen[bytes], output: Path, rng: random.Random) -> str:
    """Waits for a random moment, or until a file is being written; returns a description."""
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, 0.25))
        return ""
    while process.poll() is None and not any(output.glob(WRITING)):
        time.sleep(0.001)
    return "in a write"


def _kill(process: subprocess.Popen[bytes], rng: random.Random) -> str:
    """Kills the process, or one of its child processes; returns a description."""
    below = processes_of(process.pid, below=True)
    workers = [pid for pid in processes_of(process.pid) if _trains(pid)]
    victim = rng.choice([process.pid, *workers])
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    end = time.monotonic() + LEFT_SECONDS
    while left := [pid for pid in [process.pid, *below] if _runs(pid)]:
        if time.monotonic() > end:
            raise RuntimeError(f"processes {left} are left after process {victim} was killed")
        process.poll()
        time.sleep(0.05)
    return "killed" if not workers else "launcher killed" if victim == process.pid else "one killed"


def _trains(pid: int) -> bool:
    """Returns True for a training process of a launcher, False for a loader worker."""
    try:
        return b"\0LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def differences(first: Path, second: Path) -> list[str]:
    """Lists differences between two finished runs in checkpoint, metrics and detections."""
    files = [torch.load(run / "model_final.pth", weights_only=True) for run in (first, second)]
    found = _different(files[0], files[1], "model_final.pth")
    lines = [_lines(run) for run in (first, second)]
    found += ["metrics.jsonl"] if lines[0] != lines[1] else []
    for path in first.glob("inference/**/*.json"):
        other = second / path.relative_to(first)
        if not other.is_file() or json.loads(path.read_text()) != json.loads(other.read_text()):
            found.append(str(path.relative_to(first)))
    return found


def _lines(run: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl. The scores of a test, with TEST.ASYNC, may follow later lines."""
    lines = [_reproducible(record) for record in read_metrics(run / "metrics.jsonl")]
    return sorted(lines, key=lambda line: (line["iteration"], "dataset" in line))


def _different(a: Any, b: Any, name: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        parts = [(a[key], b[key], f"{name}[{key!r}]") for key in a if key not in _ASIDE]
        return [found for part in parts for found in _different(*part)]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        parts = [(x, y, f"{name}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
        return [found for part in parts for found in _different(*part)]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    return [] if type(a) is type(b) and a == b else [name]


# Times differ, and the configuration does if runs of other settings are compared.
_ASIDE = ("seconds", "data_time", "config")


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
    parser.add_argument("--times", type=int, default=10, help="number of runs to kill")
    parser.add_argument("--kills", type=int, default=1, help="number of kills of each run")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--work-dir", type=Path, default=Path("output/kill_and_resume"))
    args = cli.parse(parser)
    common = ["--config-file", args.config_file, *args.opts]
    uninterrupted = args.work_dir / "uninterrupted"
    seconds = finish([*common, "OUTPUT_DIR", str(uninterrupted)], args.processes)
    print(f"uninterrupted: {seconds:.1f} s", flush=True)
    rng = random.Random(0)
    total = len(read_metrics(uninterrupted / "metrics.jsonl"))
    failures = 0
    for number in range(args.times):
        output = args.work_dir / f"killed_{number}"
        lines = sorted(rng.randint(0, total) for _ in range(args.kills))
        places = killed_run(common, output, lines, rng, args.processes)
        found = differences(uninterrupted, output)
        failures += bool(found)
        verdict = f"DIFFERENT: {', '.join(found[:5])}" if found else "bitwise the same"
        print(f"{', '.join(places)}: {verdict}", flush=True)
    print(
        f"{args.times - failures} of {args.times} runs ended bitwise the same; after no kill was a "
        "process left"
    )
    return int(failures > 0)


if __name__ == "__main__":
    cli.run(main)
