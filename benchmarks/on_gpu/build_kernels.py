"""Compiles the kernels for the GPUs of this machine, and checks two results.

    python -m on_gpu.build_kernels --device cuda --folder build/gpu --json FILE

On a CPU nothing is compiled; the existing operators are checked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import ROOT

from dynamic_atss.ops import library
from dynamic_atss.ops.focal import quality_focal_loss
from dynamic_atss.ops.nms import batched_multiclass_nms

MEMORY = 4 * 10**9  # bytes of memory that one CUDA compiler may use


def architectures() -> str:
    """Returns TORCH_CUDA_ARCH_LIST for the GPUs of this machine only."""
    count = torch.cuda.device_count()
    found = {torch.cuda.get_device_capability(index) for index in range(count)}
    return ";".join(f"{major}.{minor}" for major, minor in sorted(found))


def jobs() -> int:
    """Returns the number of parallel compilers: one for each usable core and 4 GB of memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // MEMORY))


def build(folder: Path) -> None:
    """Builds the kernels. Ninja, if installed, compiles files in parallel."""
    variables = {"TORCH_CUDA_ARCH_LIST": architectures(), "FORCE_CUDA": "1"}
    environment = {"MAX_JOBS": str(jobs()), **os.environ, **variables}
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(folder)]
    command += ["--build-temp", f"{folder}_objects"]
    print(f"{variables}: {' '.join(command)}", flush=True)
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def compute(device: str) -> None:
    """Checks two operators with known results. Raises AssertionError if one differs."""
    logits = torch.zeros(2, 3, device=device, requires_grad=True)
    classes = torch.tensor([1, -1], device=device)
    loss = quality_focal_loss(logits, classes, torch.ones(2, device=device))
    loss.backward()
    # The loss of six logits with p = 1/2 and q = 0 or 1: |q - p|^2 log 2 for each.
    torch.testing.assert_close(loss.item(), 6 * 0.25 * 0.6931472, rtol=1e-5, atol=0.0)
    assert logits.grad is not None
    signs = logits.grad.sign().tolist()
    assert signs == [[1, -1, 1], [1, 1, 1]], signs
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]], device=device)
    scores = torch.tensor([[0.5, 0.9, 0.7]], device=device)
    keep, counts = batched_multiclass_nms(boxes, scores, torch.zeros_like(scores).long(), 0.5)
    assert keep.tolist() == [[1, 2, -1]] and counts.tolist() == [2], keep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    begin, built = time.perf_counter(), "nothing compiled"
    if args.device == "cuda":
        build(args.folder.resolve())
        built = f"compiled for {architectures()} in {time.perf_counter() - begin:.0f} s"
    state = library.load()[args.device]
    assert state == "native" or args.device == "cpu", state
    compute(args.device)
    summary = f"{built}; {library.serving(args.device)}"
    args.json.write_text(json.dumps({"summary": summary}))
    print(summary)


if __name__ == "__main__":
    main()
