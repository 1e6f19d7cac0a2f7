"""Runs a short training from a small configuration and checks that it learns.

    python -m on_gpu.short_training --device cuda --dtype bfloat16 --folder DIR --json FILE
        [--compile [BACKEND]] [--processes N] [--resume]

Losses must be finite and fall. The first loss is compared with that of the same step on the CPU in
float32. With --resume, some iterations follow from the checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from machine import ROOT

from dynamic_atss.config.load import load_config
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.engine.metrics import read_metrics
from dynamic_atss.run import train

CONFIG = ROOT / "configs/quickstart/shapes_R_18.yaml"
# Iterations, images of a batch, their side. A CPU also gets the smallest model.
ITERATIONS = {"cuda": 40, "cpu": 8}
BATCH = {"cuda": 16, "cpu": 4}
SIDE = {"cuda": 192, "cpu": 96}
MORE = 3  # iterations after a resume
SMALL = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    *("MODEL.RESNETS.BACKBONE_OUT_CHANNELS", 32, "MODEL.ATSS.NUM_CONVS", 1),
)
# Tolerance of the first loss. Convolutions in float32 have 10 bits on a GPU (TF32).
NEAR = {"float32": 1e-2, "bfloat16": 5e-2}


def overrides(args: argparse.Namespace) -> list[str]:
    """Returns overrides of the configuration, the same for all runs of a device."""
    side, images = SIDE[args.device], BATCH[args.device]
    given = [
        *("DATASETS.ROOT", args.folder / "datasets", "SOLVER.IMS_PER_BATCH", images),
        *("INPUT.MIN_SIZE_TRAIN", f"({side},)", "INPUT.MAX_SIZE_TRAIN", side),
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
        f"{len(lines)} iterations{', the last resumed' if args.resume else ''}, "
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
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    make_shapes(args.folder / "datasets/shapes", train=32, val=4, size=SIDE[args.device])
    run, iterations = args.folder / args.json.stem, ITERATIONS[args.device]
    if (args.processes or 1) == 1:
        first_loss_on_cpu(args)  # before the GPU is used, because its loader starts processes
    run_training(args, run, iterations, resume=False)
    total = iterations + MORE if args.resume else iterations
    if args.resume:
        run_training(args, run, total, resume=True)
    lines = losses_of(run)
    wrong = faults(lines, args, total)
    found = numbers(lines, iterations, args) if lines else {"summary": "no iterations"}
    found["summary"] = "; ".join([*wrong, found["summary"]])
    args.json.write_text(json.dumps(found))
    print(found["summary"])
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
