"""Runs a short training from a small configuration and checks that it learns.

    python -m on_gpu.short_training --device cuda --dtype bfloat16 --folder DIR --json FILE
        [--compile [BACKEND]] [--graphs] [--beside NAME] [--processes N]
        [--resume] [--deterministic]

Losses must be finite and fall. The first loss is compared with that of the same step on the CPU in
float32. With --beside, all losses are compared with those of an uncompiled training of this dtype,
which is run NAME if that is there. With --resume, the second half follows again from its checkpoint
and must end like the first run: with equal bits on a CPU, and on a GPU with --deterministic if
every operation has a deterministic form.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import ROOT

from dynamic_atss.config.load import load_config
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.engine.metrics import read_metrics
from dynamic_atss.run import train
from on_gpu import compare_runs

CONFIG = ROOT / "configs/quickstart/shapes_R_18.yaml"
# Iterations, images of a batch, their side. A CPU also gets the smallest model.
ITERATIONS = {"cuda": 50, "cpu": 8}
BATCH = {"cuda": 16, "cpu": 4}
SIDE = {"cuda": 192, "cpu": 96}
SMALL = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    *("MODEL.RESNETS.BACKBONE_OUT_CHANNELS", 32, "MODEL.ATSS.NUM_CONVS", 1),
)
# Tolerance of the first loss. Convolutions in float32 have 10 bits on a GPU (TF32).
NEAR = {"float32": 1e-2, "bfloat16": 5e-2}
WARNED = "does not have a deterministic implementation"


def overrides(args: argparse.Namespace) -> list[str]:
    """Returns overrides of the configuration, the same for all runs of a device."""
    side, images = SIDE[args.device], BATCH[args.device]
    given = [
        *("DATASETS.ROOT", args.folder / "datasets", "SOLVER.IMS_PER_BATCH", images),
        *("INPUT.MIN_SIZE_TRAIN", f"({side},)", "INPUT.MAX_SIZE_TRAIN", side),
        *("SOLVER.CHECKPOINT_PERIOD", ITERATIONS[args.device] // 2),
        *("SOLVER.LOG_PERIOD", 1, "SOLVER.WARMUP_ITERS", 3, "SOLVER.WARMUP_FACTOR", 0.1),
        *("DATALOADER.NUM_WORKERS", 4 if args.device == "cuda" else 0),
        *(SMALL if args.device == "cpu" else ()),
    ]
    return list(map(str, given))


def losses_of(run: Path) -> list[dict[str, Any]]:
    return read_metrics(run / "metrics.jsonl")


def first_loss_on_cpu(args: argparse.Namespace) -> float:
    """Returns the loss of the first iteration in float32, which all dtypes share."""
    kept = args.folder / "first_loss.json"
    if not kept.is_file():
        run = args.folder / "on_cpu"
        settings = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "1", "OUTPUT_DIR", str(run)]
        train(load_config(CONFIG, [*overrides(args), *settings]), test=False)
        kept.write_text(json.dumps(losses_of(run)[0]["loss"]))
    return float(json.loads(kept.read_text()))


def run_training(args: argparse.Namespace, run: Path, iterations: int, resume: bool) -> None:
    settings = ["MODEL.DEVICE", args.device, "DTYPE", args.dtype, "OUTPUT_DIR", str(run)]
    settings += ["SOLVER.MAX_ITER", str(iterations), "MODEL.COMPILE", str(args.compile is not None)]
    settings += ["MODEL.CUDA_GRAPHS", "True"] if args.graphs else []
    if args.processes is None:
        with compiled_by(args.compile):
            train(load_config(CONFIG, [*overrides(args), *settings]), resume=resume, test=False)
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(args.processes), str(ROOT / "tools/train_net.py")]
    command += ["--skip-test", *(["--resume"] if resume else [])]
    command += ["--config-file", str(CONFIG), *overrides(args), *settings]
    subprocess.run(command, check=True)


@contextlib.contextmanager
def compiled_by(backend: str | None) -> Any:
    """Sets the backend of MODEL.COMPILE."""
    if not backend:
        yield
        return
    compile_ = functools.partialmethod(torch.nn.Module.compile, backend=backend)
    with mock.patch.object(torch.nn.Module, "compile", compile_):
        yield


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[set[str]]:
    """Asks PyTorch for deterministic operations; gives the names of those that have no such form.

    `main` sets CUBLAS_WORKSPACE_CONFIG, which must be set before the GPU is used.
    """
    names: set[str] = set()
    if not wanted:
        yield names
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield names
        finally:
            torch.use_deterministic_algorithms(False)
            said = [str(warning.message) for warning in caught]
            names |= {text.split(WARNED)[0].split()[-1] for text in said if WARNED in text}


def resumed(args: argparse.Namespace, run: Path, unsure: set[str]) -> tuple[list[str], str]:
    """Continues from the checkpoint in the middle of `run`; returns faults and a summary.

    Args:
        unsure: operations that are not deterministic, so that bits may differ.
    """
    total, other = ITERATIONS[args.device], run.with_name(f"{run.name}_resumed")
    start = total // 2
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir(parents=True)
    shutil.copy(run / f"model_{start:07d}.pth", other)
    run_training(args, other, total, resume=True)
    loss, weight = compare_runs.largest_difference(other, run, start)
    if loss == weight == 0:
        return [], f"resumed after {start}: equal bits"
    names = f"; not deterministic: {', '.join(sorted(unsure))}" if unsure else ""
    text = f"resumed after {start}: losses differ by {loss:.2g}, weights by {weight:.2g}{names}"
    exact = args.device == "cpu" or (args.deterministic and not unsure)
    limit = compare_runs.tolerance(args.dtype, total)
    return ([text] if exact or loss > limit else []), text


def beside(args: argparse.Namespace, lines: list[dict[str, Any]]) -> tuple[list[str], str]:
    """Compares with an uncompiled training of the same dtype; returns faults and a summary."""
    total, run = ITERATIONS[args.device], args.folder / args.beside
    if len(losses_of(run)) != total:
        plain = argparse.Namespace(**{**vars(args), "compile": None, "graphs": False})
        run_training(plain, run, total, resume=False)
    others = losses_of(run)
    both = list(zip(lines, others, strict=False))
    most = max((compare_runs.difference(*pair) for pair in both), default=0.0)
    return compare_runs.apart(lines, others, args.dtype), f"{args.beside} differs by {most:.2g}"


def faults(lines: list[dict[str, Any]], args: argparse.Namespace, total: int) -> list[str]:
    """Lists the faults of a run."""
    losses = [line["loss"] for line in lines]
    if [line["iteration"] for line in lines] != list(range(1, total + 1)):
        return [f"{len(lines)} iterations are in metrics.jsonl, not {total} one after the other"]
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in losses):
        return ["a loss is not finite"]
    found, third = [], max(total // 3, 1)
    before, after = statistics.mean(losses[:third]), statistics.mean(losses[-third:])
    if after >= before:
        found.append(f"the loss does not fall: {before:.4g} at first, {after:.4g} at last")
    if (args.processes or 1) == 1:  # statistics of batch norm differ between processes
        expected = first_loss_on_cpu(args)
        if abs(losses[0] / expected - 1) > NEAR[args.dtype]:
            found.append(f"the first loss is {losses[0]:.6g}, on the CPU {expected:.6g}")
    return found


def numbers(lines: list[dict[str, Any]], iterations: int, args: argparse.Namespace) -> dict:
    """Returns the numbers of the summary. The first third of the iterations warms up."""
    seconds = statistics.median(line["time"] for line in lines[iterations // 3 : iterations])
    found = {
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "iterations": len(lines),
        "ms_per_iteration": 1e3 * seconds,
        "images_per_second": BATCH[args.device] / seconds,
        "max_mem_mb": max(line["max_mem_mb"] for line in lines),
    }
    reference = ""
    if (args.processes or 1) == 1:
        found["first_loss_on_cpu"] = first_loss_on_cpu(args)
        reference = f" (CPU {found['first_loss_on_cpu']:.5g})"
    processes = f"{args.processes} process(es), " if args.processes else ""
    found["summary"] = (
        f"{processes}loss {found['first_loss']:.5g}{reference} -> {found['last_loss']:.5g} in "
        f"{len(lines)} iterations, "
        f"{found['ms_per_iteration']:.1f} ms each, {found['max_mem_mb']} MB"
    )
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--dtype", choices=tuple(NEAR), default="float32")
    parser.add_argument("--compile", nargs="?", const="", metavar="BACKEND")
    parser.add_argument(
        "--processes", type=int, help="processes, started by torchrun; default: this process alone"
    )
    parser.add_argument("--graphs", action="store_true", help="set MODEL.CUDA_GRAPHS")
    parser.add_argument("--beside", metavar="NAME", help="compare with this uncompiled run")
    parser.add_argument("--resume", action="store_true", help="run the second half again")
    parser.add_argument("--deterministic", action="store_true", help="ask PyTorch for equal bits")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


def compared(
    args: argparse.Namespace, run: Path, lines: list[dict[str, Any]], names: set[str]
) -> tuple[list[str], list[str]]:
    """Compares the run with others as the options say; returns faults and summaries."""
    pairs = [beside(args, lines)] if args.beside else []
    if args.resume:
        with deterministic(args.deterministic):
            pairs.append(resumed(args, run, names))
    return [fault for wrong, _ in pairs for fault in wrong], [text for _, text in pairs]


def main() -> int:
    args = arguments()
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    make_shapes(args.folder / "datasets/shapes", train=32, val=4, size=SIDE[args.device])
    run, iterations = args.folder / args.json.stem, ITERATIONS[args.device]
    if (args.processes or 1) == 1:
        first_loss_on_cpu(args)  # before the GPU is used, because its loader starts processes
    with deterministic(args.deterministic) as names:
        run_training(args, run, iterations, resume=False)
    lines = losses_of(run)
    wrong = faults(lines, args, iterations)
    more, texts = ([], []) if wrong else compared(args, run, lines, names)
    found = numbers(lines, iterations, args) if lines else {"summary": "no iterations"}
    wrong += [fault for fault in more if fault not in texts]
    found["summary"] = "; ".join([*wrong, found["summary"], *texts])
    args.json.write_text(json.dumps(found))
    print(found["summary"])
    return int(bool(wrong or more))


if __name__ == "__main__":
    sys.exit(main())
