"""Measures the seconds until a command answers, and those of importing PyTorch alone.

    python benchmarks/startup.py

Each call is a new process with warm file caches. `--help` and a wrong command line answer before
PyTorch is imported. A training imports it; the note lists its other imports besides torch and
torchvision, with milliseconds of `-X importtime`. The limit is an interpreter that does nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from typing import Any

from common import Call, main, measure
from machine import ROOT

TRAIN = ("tools/train_net.py",)
MISTAKE = (*TRAIN, "--config-file", "configs/atss/atss_R_50_FPN_1x.yaml", "SOLVER.NO_SUCH_KEY", "1")
BASE = ("torch", "torchvision", "numpy")
# Keeps compiled modules, as a user's Python does, even if this process must not.
ENV = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def process(*args: str) -> Call:
    def call() -> int:
        command = [sys.executable, *args]
        return subprocess.run(command, cwd=ROOT, env=ENV, capture_output=True).returncode

    return call


def imported(statement: str, min_ms: float = 5.0) -> str:
    """Lists packages that a statement imports after BASE in more than `min_ms`, with times."""
    code = f"import {', '.join(BASE)}; import sys; print('BASE', file=sys.stderr); {statement}"
    command = [sys.executable, "-X", "importtime", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=ENV, capture_output=True, text=True)
    taken: Counter[str] = Counter()
    for line in done.stderr.partition("BASE\n")[2].splitlines():
        if line.startswith("import time:"):
            self_us, _, name = line.removeprefix("import time:").split("|")
            taken[name.strip().split(".")[0]] += int(self_us)
    large = [(name, us / 1e3) for name, us in taken.most_common() if us / 1e3 > min_ms]
    return ", ".join(f"{name} {ms:.0f} ms" for name, ms in large)


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    nothing = process("-c", "pass")
    peers = {
        "import torch": process("-c", "import torch"),
        "import torch, torchvision": process("-c", "import torch, torchvision"),
    }
    training = "import dynamic_atss.run"
    cases: dict[str, tuple[Call, str]] = {
        "train_net.py --help": (process(*TRAIN, "--help"), "imports no torch"),
        "train_net.py with an unknown key": (process(*MISTAKE), "imports no torch"),
        "imports of a training": (process("-c", training), f"beyond {', '.join(BASE)}: "),
    }
    assert process(*TRAIN, "--help")() == 0 and process(*MISTAKE)() == 2
    found = []
    for case, (call, note) in cases.items():
        note = f"{note}{imported(training)}" if note.endswith(": ") else note
        found += measure(
            *("start-up", case, call, peers, args),
            limit="an interpreter",
            at_limit=nothing,
            memory=False,
            note=note,
            device="host",
        )
    return found


if __name__ == "__main__":
    main(__doc__, rows)
