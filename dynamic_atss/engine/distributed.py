"""Connects the processes of a run. All functions also work with one process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dynamic_atss.engine.first_report import MISTAKE, after_mistake, report_end, reported_code
from dynamic_atss.engine.interrupt import ignore, on_signals
from dynamic_atss.engine.lost_process import Watch
from dynamic_atss.engine.rendezvous import meet
from dynamic_atss.errors import LostProcessError, UserError
from dynamic_atss.processes import end_at_once

_T = TypeVar("_T")
LONGEST_WAIT = timedelta(days=2)  # for rank 0, which may check millions of files
_AFTER_THE_WATCH = 10  # seconds: collectives time out after the watch, which names the lost process
# Words in the errors of collectives. Errors of NCCL have a class.
_COLLECTIVE = ("gloo", "ProcessGroup", "TCPStore")


@dataclass
class _Run:
    """Holds the state that all functions of this module share.

    Attributes:
        watch: reports which other process is lost.
        patient: a process group with a very long timeout, made at its first use.
        saved: the name of the last checkpoint.
    """

    watch: Watch | None = None
    patient: Any = None
    saved: str = ""


_run = _Run()


def init_distributed(device: str, timeout: float) -> torch.device:
    """Joins the process group of torchrun or torch.distributed.launch, if there is one.

    Args:
        device: "auto" | "cuda" | "cpu"; cuda uses NCCL, cpu uses gloo.
        timeout: seconds after which a process that is lost or does not respond ends the others.

    Returns:
        the device of this process.

    Raises:
        UserError: there are fewer GPUs than processes.
        LostProcessError: another process has not joined in time.
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
        # Python's signal handlers do not run while joining waits. Nothing needs saving yet.
        with on_signals(signal.SIG_DFL):
            _join("nccl" if device.startswith("cuda") else "gloo", timeout)
    return torch.device(device)


def _join(backend: str, timeout: float) -> None:
    meeting = meet(timeout)
    _run.watch = Watch(meeting, timeout, lambda trouble: _end(_line(trouble)))
    after_mistake(_run.watch.leave)
    dist.init_process_group(
        backend,
        store=meeting.store,
        rank=meeting.rank,
        world_size=meeting.world,
        timeout=timedelta(seconds=timeout + _AFTER_THE_WATCH),
    )


def _end(line: str) -> NoReturn:
    """Ends the process from a thread, while the main thread waits in a collective."""
    report_end(f"error: {line}", LostProcessError.exit_code)
    end_at_once(LostProcessError.exit_code)


def _line(trouble: str) -> str:
    watch = _run.watch
    where = f"iteration {watch.iteration}: " if watch and watch.iteration else ""
    return f"{where}{trouble}; {saved_text()}"


@contextlib.contextmanager
def naming_lost_process() -> Iterator[None]:
    """Ends the process, and names the lost one, if a collective fails in the block."""
    try:
        yield
    except RuntimeError as error:
        watch = _run.watch
        if watch is None or not _of_collective(error) or reported_code():
            raise
        with on_signals(ignore):  # the launcher sends them after a process has ended
            line = _line(watch.reason())
            if watch.ended_with(MISTAKE):  # on another machine, which reports it
                end_at_once(MISTAKE)
            _end(line)


def _of_collective(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(x in str(error) for x in _COLLECTIVE)


@contextlib.contextmanager
def iteration(number: int) -> Iterator[None]:
    """Encloses a training iteration, which must end within the timeout on all processes."""
    watch = _run.watch
    with naming_lost_process(), watch.of_iteration(number) if watch else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def outside_iteration() -> Iterator[None]:
    """Encloses work in an iteration that has no time limit, on all processes."""
    watch = _run.watch
    with watch.outside_iteration() if watch else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Encloses a collective, so that the watch knows that this process only waits for others."""
    watch = _run.watch
    with watch.waiting() if watch else contextlib.nullcontext():
        yield


def note_saved(checkpoint: str) -> None:
    """Records the name of the checkpoint from which the run can be resumed."""
    _run.saved = checkpoint


def saved_text() -> str:
    """Says, for messages, from which checkpoint the run can be resumed."""
    return f"--resume continues from {_run.saved}" if _run.saved else "nothing is saved"


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def average(x: Tensor) -> Tensor:
    """Gives the mean of `x` over all processes. It is a collective: call it on all of them."""
    if world_size() == 1:
        return x
    x = x.clone()
    with waiting():
        dist.all_reduce(x)
    return x / world_size()


def same_buffers(model: nn.Module) -> None:
    """Copies the buffers of rank 0 to all processes, because batch norm's statistics differ."""
    if world_size() > 1:
        with waiting():
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def on_rank_0(call: Callable[[], _T]) -> _T:
    """Runs `call` only on rank 0, and gives its result to all processes, which wait for it.

    Use it to read files that rank 0 writes, and for work that one process does for all. There is no
    time limit.

    Raises:
        UserError: on rank 0, if `call` raises it; the other processes raise SystemExit.
    """
    group = long_timeout_group()
    error = None
    message: list[Any] = [True, None]  # whether `call` failed, and its result
    if rank() == 0:
        try:
            message = [False, call()]
        except UserError as caught:
            error = caught
    if group is not None:
        dist.broadcast_object_list(message, src=0, group=group)
    if error is not None:
        raise error
    failed, result = message
    if failed:
        raise SystemExit(2)
    return result


def long_timeout_group() -> Any:
    """Gives a process group with a very long timeout; None for one process.

    It is a gloo group on the CPU, because NCCL cannot wait so long.
    """
    if world_size() > 1 and _run.patient is None:
        _run.patient = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    return _run.patient


def long_timeout_barrier() -> None:
    """Waits until all processes have reached this call, without a time limit."""
    on_rank_0(lambda: None)


def check_same(value: Any, complaint: str) -> None:
    """Raises UserError on all processes if `value`, read from files, differs between them."""
    if len(set(gather(value))) > 1:
        raise UserError(f"{complaint}; put OUTPUT_DIR on a file system that all machines share")


def gather(value: Any) -> list[Any]:
    """Gives the `value` of every process, by rank, to all of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    with waiting():
        dist.all_gather_object(values, value)
    return values


def shut_down() -> None:
    """Stops the watch and leaves the process group."""
    if _run.watch is not None:
        _run.watch.stop()
    _run.watch = _run.patient = None
    if dist.is_initialized():
        dist.destroy_process_group()
