"""Defines parts that the benchmark scripts share.

They are alternating calls, peak memory, rows and the command line.

Each script has `rows(args) -> list[dict]`, each a `Row.to_dict()`. It may have `arguments(parser)`
for its options. It ends with `main(__doc__, rows, arguments)`. `run.py` runs all scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import machine
from report import markdown
from torch.profiler import ProfilerActivity, profile

from dynamic_atss.ops import library

Call = Callable[[], object]
Clock = Callable[[], float]
QUEUED = 3


@dataclass(frozen=True)
class Row:
    """Compares ours, one peer and the limit. None or "" means not measured, or none.

    Attributes:
        stage, case: the measured stage, and its inputs.
        ours_s, peer_s, limit_s: median seconds.
        peer: name of the peer.
        limit: work that every implementation must do.
        ours_mb, peer_mb: peak of newly allocated memory, 10^6 bytes.
        same: which results were compared, and their difference.
        note: a remark for readers.
        device: the device of the calls.
        numbers: further numbers by name, for programs; the note has them for readers.
        failed: True if it could not be measured; the note says why.
    """

    stage: str
    case: str
    ours_s: float | None = None
    peer: str = ""
    peer_s: float | None = None
    limit: str = ""
    limit_s: float | None = None
    ours_mb: float | None = None
    peer_mb: float | None = None
    same: str = ""
    note: str = ""
    device: str = "cpu"  # or "cuda", or "host": runs on the host even with a GPU
    numbers: dict[str, float] = field(default_factory=dict)
    failed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields, and `ratio`, peer_s / ours_s."""
        known = self.ours_s is not None and self.peer_s is not None
        return {**asdict(self), "ratio": self.peer_s / self.ours_s if known else None}


def measure(
    stage: str,
    case: str,
    ours: Call,
    peers: dict[str, Call],
    args: argparse.Namespace,
    *,
    limit: str = "",
    at_limit: Call | None = None,
    memory: bool = True,
    device: str = "",
    same: str = "",
    note: str = "",
) -> list[dict[str, Any]]:
    """Measures all calls in turn; returns a row for each peer, or one without. Logs to stderr.

    Args:
        device: device of the rows; by default `args.device`.
    """
    print(f"{stage}: {case}", file=sys.stderr, flush=True)
    calls = [ours, *([at_limit] if at_limit else []), *peers.values()]
    ours_s, *others = alternate(calls, args.seconds, args.device, args.clock)
    seen = ", ".join(f"{seconds * 1e3:.4g} ms" for seconds in (ours_s, *others))
    print(f"    {seen}", file=sys.stderr, flush=True)  # kept if the run is killed
    limit_s = others.pop(0) if at_limit else None
    peaks = [peak_memory(c, args.device) / 1e6 if memory else None for c in (ours, *peers.values())]
    common = {
        "stage": stage,
        "case": case,
        "ours_s": ours_s,
        "ours_mb": peaks[0],
        "limit": limit,
        "limit_s": limit_s,
        "note": note,
        "device": device or args.device,
    }
    if not peers:
        return [Row(**common).to_dict()]
    peer_results = zip(peers, others, peaks[1:], strict=True)
    return [
        Row(**common, peer=name, peer_s=s, peer_mb=mb, same=same).to_dict()
        for name, s, mb in peer_results
    ]


def failed_row(
    stage: str, case: str, error: BaseException, device: str, peer: str = ""
) -> dict[str, Any]:
    """Makes the row of something that could not be measured. Prints where the error came from."""
    traceback.print_exception(error)
    lines = str(error).strip().splitlines()
    note = f"failed: {type(error).__name__}{': ' if lines else ''}{lines[0][:200] if lines else ''}"
    return Row(stage, case, peer=peer, note=note, device=device, failed=True).to_dict()


def alternate(
    calls: Sequence[Call], seconds: float, device: str = "cpu", clock: Clock = time.perf_counter
) -> list[float]:
    """Returns the median seconds of each call. They alternate, so a busy machine slows all."""
    times: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    turns = 0
    while not turns or spent(begin) < seconds or (turns < 3 and spent(begin) < 5 * seconds):
        turns += 1
        for call, record in zip(calls, times, strict=True):
            record += _turn(call, device, clock)
    return [statistics.median(record) for record in times]


def _turn(call: Call, device: str, clock: Clock) -> list[float]:
    """Returns the seconds of each repeat: a warm-up, which is not counted, then repeats for 20 ms.

    Without the warm-up, a fast form would start with the caches that a slow form filled. A call of
    more than a second needs no warm-up. On a GPU the repeats are queued without waits, and their
    mean is returned: a wait for each would add microseconds that a training does not have. At least
    QUEUED are queued, so that the host runs ahead as in a training.
    """
    first = _timed(call, device, clock)
    if first > 1:
        return [first]
    if device == "cuda":
        count = max(round(0.02 / first), QUEUED)
        return [_timed(lambda: [call() for _ in range(count)], device, clock) / count]
    found = [_timed(call, device, clock)]
    begin = time.perf_counter()
    while spent(begin) < 0.02 - found[0]:
        found.append(_timed(call, device, clock))
    return found


def _timed(call: Call, device: str, clock: Clock) -> float:
    start = clock()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def spent(start: float) -> float:
    return time.perf_counter() - start


def peak_memory(call: Call, device: str = "cpu") -> int:
    """Returns the peak of bytes that PyTorch newly allocates during a call.

    On a CPU the profiler records the events of PyTorch's allocator. They include an operator's
    temporary buffers (as of a sort) but not pages that the process keeps. Memory of other libraries
    (numpy, a std::vector) is not counted.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = call()
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    now = peak = 0
    for _, change in sorted(changes, key=lambda event: event[0]):
        now += change
        peak = max(peak, now)
    return peak


def waits(call: Call) -> int:
    """Counts the waits of the host for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in found)


def parser(
    doc: str, arguments: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.ArgumentParser:
    """Makes the parser of a script: the shared options, and those of the script."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="run fewer and smaller cases")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    made.add_argument("--seconds", type=float, default=3.0, help="time to repeat each case")
    made.add_argument("--json", type=Path, help="file to write the rows to")
    made.set_defaults(clock=time.perf_counter)
    if arguments is not None:
        arguments(made)
    return made


def processor_time(made: argparse.ArgumentParser) -> None:
    """Adds an option for scripts whose calls start no process."""
    made.add_argument(
        "--processor-time",
        dest="clock",
        action="store_const",
        const=time.process_time,
        help="measure the processor time, which other processes lengthen less",
    )


def main(
    doc: str,
    rows: Callable[[argparse.Namespace], Iterable[dict[str, Any]]],
    arguments: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Measures, prints a Markdown table, and writes JSON if asked to.

    The file is written after each row, so that a script that is killed leaves those before.
    Raises SystemExit(1) if a row failed.
    """
    options = parser(doc, arguments)
    args = options.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        options.error("--device cuda: PyTorch finds no GPU here")
    torch.set_num_threads(args.threads)
    computed_by = library.load()
    found: list[dict[str, Any]] = []
    for row in rows(args):
        found.append({**row, "operators": computed_by.get(row["device"], "")})
        write_json(args.json, found)
    write_json(args.json, found)  # also if there is no row
    times = {"times": "of the processor" if args.clock is time.process_time else ""}
    print(markdown(found, machine(args.threads) | times))
    if any(row["failed"] for row in found):
        raise SystemExit(1)


def write_json(path: Path | None, content: object) -> None:
    """Writes a file completely or not at all; nothing without a path."""
    if path is not None:
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(content, indent=1))
        os.replace(part, path)
