"""One process or many: the few questions that the rest of the engine asks."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dynamic_atss.engine.interrupt import on_signals
from dynamic_atss.errors import UserError

_T = TypeVar("_T")
LONGEST_WAIT = timedelta(days=2)  # for rank 0, which may look through millions of files


def init_distributed(device: str) -> torch.device:
    """Joins the process group that torchrun or torch.distributed.launch set up, if they did.

    Args:
        device: "auto" | "cuda" | "cpu"; NCCL serves cuda, gloo serves cpu.

    Returns:
        this process's device.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} finds {torch.cuda.device_count()} GPU(s): start no more "
                "processes than GPUs (--nproc-per-node), or set MODEL.DEVICE cpu"
            )
        torch.cuda.set_device(local_rank)
        device = f"cuda:{local_rank}"
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        # The wait for the others runs no handler of Python's; nothing is to be saved yet.
        with on_signals(signal.SIG_DFL):
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return torch.device(device)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def average(x: Tensor) -> Tensor:
    """Mean of `x` over the processes, on each of them; a collective, so call it on all."""
    if world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / world_size()


def same_buffers(model: nn.Module) -> None:
    """Rank 0's buffers on every process: batch norm's statistics are each process's own."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def on_first(do: Callable[[], _T]) -> _T:
    """What `do` gives on rank 0, on every process, none of which goes on before: for what looks at
    files that rank 0 writes, and for what one process should do for all, however long it takes.

    Its UserError ends every process; rank 0 has the word.
    """
    with _patient_group() as group:
        error = None
        told: list[Any] = [True, None]
        if rank() == 0:
            try:
                told = [False, do()]
            except UserError as refusal:
                error = refusal
        if group is not None:
            dist.broadcast_object_list(told, src=0, group=group)
    if error is not None:
        raise error
    refused, found = told
    if refused:
        raise SystemExit(2)
    return found


@contextlib.contextmanager
def _patient_group() -> Iterator[Any]:
    """A process group that waits as long as it takes, which NCCL does not; None of one process.

    Gloo on a CPU serves beside any other. It is made before the wait: all processes meet for it.
    """
    if world_size() == 1:
        yield None
        return
    group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    yield group
    dist.destroy_process_group(group)


def check_same(value: Any, complaint: str) -> None:
    """Raises UserError on every process if `value`, read from files, differs between them."""
    if len(set(gather(value))) > 1:
        raise UserError(f"{complaint}; put OUTPUT_DIR on a file system that all machines share")


def gather(value: Any) -> list[Any]:
    """`value` of every process, by rank, on each of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def shut_down() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
