"""Checks the collectives of a training against known results, in each process of torchrun.

A single process uses NCCL, too.

    torchrun --standalone --nproc-per-node N -m on_gpu.collectives --device cuda --json FILE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.engine import distributed

ROWS = 8


def check_collectives(device: torch.device) -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    x = torch.full((1000,), rank + 1.0, device=device)
    dist.all_reduce(x)
    assert x.eq(world * (world + 1) / 2).all()
    x.fill_(rank)
    dist.broadcast(x, 0)
    assert x.eq(0).all()
    seen = [None] * world
    dist.all_gather_object(seen, {"rank": rank})
    assert seen == [{"rank": n} for n in range(world)]
    mean = distributed.average(torch.tensor(float(rank), device=device))
    assert mean.item() == (world - 1) / 2


def gradient(model: nn.Module, layer: nn.Linear, rank: int, device: torch.device) -> Tensor:
    x = torch.rand(ROWS, 4, generator=torch.Generator().manual_seed(rank)).to(device)
    layer.zero_grad()
    model(x).square().mean().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


def check_parallel(device: torch.device) -> None:
    """Checks that the gradient is the mean of the gradients of each process's images."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).to(device)
    each = [gradient(layer, layer, n, device) for n in range(dist.get_world_size())]
    ids = [device.index] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(layer, device_ids=ids, gradient_as_bucket_view=True)
    found = gradient(wrapped, layer, dist.get_rank(), device)
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    device = distributed.init_distributed(args.device, timeout=600)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if not dist.is_initialized():  # the engine makes no group for one process
        dist.init_process_group(backend)
    assert dist.get_backend() == backend
    check_collectives(device)
    check_parallel(device)
    if dist.get_rank() == 0:
        summary = (
            f"{backend}, {dist.get_world_size()} process(es): sums, objects and gradients agree"
        )
        args.json.write_text(json.dumps({"summary": summary}))
        print(summary)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
