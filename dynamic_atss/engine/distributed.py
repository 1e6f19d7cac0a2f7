"""One process or many: the few questions that the rest of the engine asks."""

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

from dynamic_atss.engine.interrupt import ignore, on_signals
from dynamic_atss.engine.meeting import meet
from dynamic_atss.engine.told import MISTAKE, after_mistake, report_end, reported_code
from dynamic_atss.engine.watch import Watch
from dynamic_atss.errors import Lost, UserError
from dynamic_atss.processes import end_at_once

_T = TypeVar("_T")
LONGEST_WAIT = timedelta(days=2)  # for rank 0, which may look through millions of files
_AFTER_THE_WATCH = 10  # seconds that a collective may wait longer than the watch, which names who
# The sources that errors of a collective name; NCCL's have a class.
_COLLECTIVE = ("gloo", "ProcessGroup", "TCPStore")


@dataclass
class _Run:
    """What the processes have together: watch: over each other · patient: a group whose collectives
    may take as long as it takes, made when it is first needed · saved: the last checkpoint"""

    watch: Watch | None = None
    patient: Any = None
    saved: str = ""


_run = _Run()


def init_distributed(device: str, timeout: float) -> torch.device:
    """Joins the process group that torchrun or torch.distributed.launch set up, if they did.

    Args:
        device: "auto" | "cuda" | "cpu"; NCCL serves cuda, gloo serves cpu.
        timeout: seconds after which a process that has gone or stands still ends the others.

    Returns:
        this process's device.

    Raises:
        UserError: there are fewer GPUs than processes.
        Lost: another process has not come.
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
    """From a thread: the main one waits in a collective."""
    report_end(f"error: {line}", Lost.exit_code)
    end_at_once(Lost.exit_code)


def _line(trouble: str) -> str:
    watch = _run.watch
    where = f"iteration {watch.iteration}: " if watch and watch.iteration else ""
    return f"{where}{trouble}; {saved_text()}"


@contextlib.contextmanager
def naming_the_lost() -> Iterator[None]:
    """A collective that fails inside ends the process with the name of the one that has gone."""
    try:
        yield
    except RuntimeError as error:
        watch = _run.watch
        if watch is None or not _of_collective(error) or reported_code():
            raise
        with on_signals(ignore):  # the launcher's, since a process has gone
            line = _line(watch.reason())
            if watch.ended_with(MISTAKE):  # on another machine, where it is told
                end_at_once(MISTAKE)
            _end(line)


def _of_collective(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(x in str(error) for x in _COLLECTIVE)


@contextlib.contextmanager
def iteration(number: int) -> Iterator[None]:
    """For what the processes do in an iteration, all at the same time: it is to end in time."""
    watch = _run.watch
    with naming_the_lost(), watch.of_iteration(number) if watch else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """For what ends when all processes have come to it."""
    watch = _run.watch
    with watch.waiting() if watch else contextlib.nullcontext():
        yield


def saved(checkpoint: str) -> None:
    """The name of the checkpoint from which a run would go on from now on."""
    _run.saved = checkpoint


def saved_text() -> str:
    return f"{_run.saved} is saved, --resume goes on from it" if _run.saved else "nothing is saved"


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def average(x: Tensor) -> Tensor:
    """Mean of `x` over the processes, on each of them; a collective, so call it on all."""
    if world_size() == 1:
        return x
    x = x.clone()
    with waiting():
        dist.all_reduce(x)
    return x / world_size()


def same_buffers(model: nn.Module) -> None:
    """Rank 0's buffers on every process: batch norm's statistics are each process's own."""
    if world_size() > 1:
        with waiting():
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


def on_first(do: Callable[[], _T]) -> _T:
    """What `do` gives on rank 0, on every process, none of which goes on before: for what looks at
    files that rank 0 writes, and for what one process should do for all, however long it takes.

    Its UserError ends every process; rank 0 has the word.
    """
    group = patient_group()
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


def patient_group() -> Any:
    """A process group that waits as long as it takes, which NCCL does not; None of one process.

    Gloo on a CPU serves beside any other.
    """
    if world_size() > 1 and _run.patient is None:
        _run.patient = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    return _run.patient


def meet_again() -> None:
    """All go on when the last has come, however long that takes."""
    on_first(lambda: None)


def check_same(value: Any, complaint: str) -> None:
    """Raises UserError on every process if `value`, read from files, differs between them."""
    if len(set(gather(value))) > 1:
        raise UserError(f"{complaint}; put OUTPUT_DIR on a file system that all machines share")


def gather(value: Any) -> list[Any]:
    """`value` of every process, by rank, on each of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    with waiting():
        dist.all_gather_object(values, value)
    return values


def shut_down() -> None:
    if _run.watch is not None:
        _run.watch.stop()
    _run.watch = _run.patient = None
    if dist.is_initialized():
        dist.destroy_process_group()
