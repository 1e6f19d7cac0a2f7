"""Runs a tiny detector on a few generated images."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType
from typing import IO, Any

import pytest
from helpers_fork import Program

from dynamic_atss import cli
from dynamic_atss.data.shapes import make_shapes

ROOT = Path(__file__).resolve().parents[1]
# Prefixes of a tool's path that start two processes, by torchrun and by tools/launch.py.
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LAUNCH = [str(ROOT / "tools" / "launch.py"), *TORCHRUN[2:]]
MEASURED = ("time", "data_time", "max_mem_mb")  # numbers of metrics.jsonl that vary between runs

TINY = """
MODEL:
  DEVICE: "cpu"
  ATSS_ON: True
  BACKBONE:
    CONV_BODY: "R-18-FPN-RETINANET"
    FREEZE_CONV_BODY_AT: 0
  RESNETS:
    NORM: "BN"
    STRIDE_IN_1X1: False
    STEM_OUT_CHANNELS: 8
    RES2_OUT_CHANNELS: 32
    BACKBONE_OUT_CHANNELS: 32
  RETINANET:
    USE_C5: False
  ATSS:
    NUM_CONVS: 1
DATASETS:
  TRAIN: ("shapes_train",)
  TEST: ("shapes_val",)
INPUT:
  MIN_SIZE_TRAIN: (64, 96)
  MAX_SIZE_TRAIN: 96
  MIN_SIZE_TEST: 96
  MAX_SIZE_TEST: 96
DATALOADER:
  NUM_WORKERS: 0
SOLVER:
  BASE_LR: 0.02
  WEIGHT_DECAY: 0.0001
  IMS_PER_BATCH: 4
  MAX_ITER: 6
  STEPS: (4,)
  WARMUP_ITERS: 2
  CHECKPOINT_PERIOD: 2
  LOG_PERIOD: 2
TEST:
  IMS_PER_BATCH: 4
"""


def write_config(folder: Path) -> list[str]:
    """Writes a config file and images to `folder`; returns the arguments that name them."""
    make_shapes(folder / "datasets" / "shapes", train=16, val=8, size=96)
    (folder / "tiny.yaml").write_text(TINY)
    return ["--config-file", str(folder / "tiny.yaml"), "DATASETS.ROOT", str(folder / "datasets")]


def load_module(path: str) -> ModuleType:
    """Imports a Python file by its path in the repository."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call_tool(monkeypatch: pytest.MonkeyPatch, tool: str, args: Sequence[object]) -> int:
    """Runs tools/<tool>.py in this process, and returns the exit code."""
    monkeypatch.setattr(sys, "argv", [f"tools/{tool}.py", *map(str, args)])
    main: Callable[[], int] = load_module(f"tools/{tool}.py").main
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    return int(ended.value.code or 0)


def command(tool: str, args: Sequence[object], launcher: Sequence[str] = ()) -> list[str]:
    return [sys.executable, *launcher, str(ROOT / "tools" / f"{tool}.py"), *map(str, args)]


def environment() -> dict[str, str]:
    """Gives variables for the CPU and one thread, because the last bits depend on the threads."""
    settings = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **settings}


def start_tool(
    tool: str,
    args: Sequence[object],
    launcher: Sequence[str] = (),
    *,
    stdout: IO[Any],
    stderr: IO[Any],
    cwd: Path = ROOT,
    start_new_session: bool = False,
) -> Program:
    """Starts tools/<tool>.py in a new process, which writes to open files."""
    words = command(tool, args, launcher)[1:]
    return Program(words, environment(), stdout, stderr, cwd, start_new_session)


def run_tool(
    tool: str,
    args: Sequence[object],
    launcher: Sequence[str] = (),
    timeout: float = 300,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Runs tools/<tool>.py in a new process; fails after `timeout` seconds."""
    return run_program(command(tool, args, launcher)[1:], timeout, cwd)


def run_program(
    words: Sequence[str], timeout: float = 300, cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs `python <words>` in a new process.

    Args:
        variables: are added to its environment.
    """
    with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        process = Program(words, {**environment(), **variables}, stdout, stderr, cwd)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        out, err = (file.seek(0) or file.read() for file in (stdout, stderr))
    return subprocess.CompletedProcess([*words], code, out, err)


def read_lines(run: Path) -> list[dict[str, Any]]:
    """Reads metrics.jsonl without the numbers that vary between runs."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]
