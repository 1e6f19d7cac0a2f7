"""Runs one process of a training, which growth.py starts by torchrun.

Each process trains on a different batch. The first one prints the median seconds of a step.
"""

from __future__ import annotations

import json
import os
import statistics
import time

import torch
import torch.distributed as dist
from common import parser, spent
from detectors import filled
from stages import Loops, arguments
from torch.nn.parallel import DistributedDataParallel

from dynamic_atss.engine import distributed

REPEATS = 3


def main() -> None:
    args = filled(parser(__doc__ or "", arguments).parse_args())
    torch.set_num_threads(args.threads)
    if args.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    loops = Loops(args)  # before the group exists, because it runs inference in each process
    device = distributed.init_distributed(args.device, timeout=600)
    if distributed.world_size() > 1:
        ids = [device.index] if device.type == "cuda" else None
        loops.model = DistributedDataParallel(
            loops.model, device_ids=ids, gradient_as_bucket_view=True
        )
    loops.train(2)  # caches, momenta
    seconds = [step(loops, args.steps) for _ in range(REPEATS)]
    if distributed.rank() == 0:
        print(json.dumps(statistics.median(seconds)))
    if dist.is_initialized():
        dist.destroy_process_group()


def step(loops: Loops, steps: int) -> float:
    """Runs one step; returns its seconds."""
    if dist.is_initialized():
        dist.barrier()
    begin = time.perf_counter()
    loops.train(steps)
    if loops.device.type == "cuda":
        torch.cuda.synchronize()
    return spent(begin) / steps


if __name__ == "__main__":
    main()
