"""Describes the machine: python -m on_gpu.environment --json FILE"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from machine import machine

from on_gpu.table import toolkit

QUERY = "name,driver_version,memory.total,power.limit"


def output_of(*command: str) -> str:
    """Returns the output of a program; "" if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


def compiler_version() -> str:
    """Returns the version of nvcc; "" without nvcc."""
    folder = toolkit()
    output = output_of(str(folder / "bin/nvcc"), "--version") if folder else ""
    found = re.search(r"release ([\d.]+)", output)
    return found[1] if found else ""


def gpus() -> list[dict[str, Any]]:
    found = []
    for index in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": one.name,
                "capability": f"{one.major}.{one.minor}",
                "gigabytes": round(one.total_memory / 1e9, 1),
                "multiprocessors": one.multi_processor_count,
            }
        )
    return found


def facts() -> dict[str, Any]:
    found: dict[str, Any] = {"machine": machine(torch.get_num_threads()), "gpus": gpus()}
    found["driver"] = output_of("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader")
    found |= {"cuda": torch.version.cuda, "nvcc": compiler_version()}
    found["cudnn"] = torch.backends.cudnn.version()
    if found["gpus"]:
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def summary(found: dict[str, Any]) -> str:
    on = found["machine"]
    devices = [f"{g['name']} ({g['gigabytes']} GB, {g['capability']})" for g in found["gpus"]]
    parts = [", ".join(devices) or "no GPU", f"PyTorch {on['torch']} of CUDA {found['cuda']}"]
    parts.append(f"nvcc {found['nvcc'] or 'not there'}")
    driver = found["driver"].split(",")
    parts += [f"driver {driver[1].strip()}"] if len(driver) > 1 else []
    parts += [f"Python {on['python']}", f"{on['cpu']}, {on['cores']} cores"]
    return "; ".join([*parts, f"commit {on['commit'] or 'unknown'}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    found = facts()
    found["summary"] = summary(found)
    args.json.write_text(json.dumps(found))
    print(found["summary"])


if __name__ == "__main__":
    main()
