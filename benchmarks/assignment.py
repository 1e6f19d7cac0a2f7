"""Time and peak memory of the assignment rules beside the same rules over all P x T pairs.

    python benchmarks/assignment.py [--rules atss fcos] [--boxes 10 100 1000] [--batch 1]
        [--threads 2]

One image of 800 x 1344 has 22,400 priors. The dense forms are in `dense_rules.py`: plain PyTorch,
vectorised over boxes as the releases are, image by image. Both must give the same gt index on every
prior; where ours is not defined as the release (task-aligned, SimOTA: see the rules), labels are
compared with a dense form of our definition, and the release's is timed. Medians of repeats that
alternate in one process; a call of more than a second is repeated once to three times. Of PAA's
time nearly all is scikit-learn's, one mixture for each box on either side.

On a machine that others use, `--threads 1` is the steadier comparison: with more, each operator
waits for its slowest thread. `2> /dev/null` drops the profiler's own notes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from dense_rules import DENSE, MATRICES, SAME, Image, Rule
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions, Priors

SIZES = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
CLASSES = 80
# Scores of top-k fall by millionths from anchor to anchor, so that float32 decides a few (2 of
# 22,400 priors at 1,000 boxes; their scores differ by 5e-9).
MAY_DIFFER = {"topk": 1e-4}


def scene(boxes: int, batch: int) -> tuple[Priors, GroundTruth, Predictions]:
    """Random boxes of sides 8 to 400 pixels; predictions near the priors with random logits."""
    generator = torch.Generator().manual_seed(boxes)
    make = AnchorGenerator((8, 16, 32, 64, 128), (64, 128, 256, 512, 1024))
    priors = make(SIZES, torch.device("cpu"))
    total = boxes * batch
    center = torch.rand(total, 2, generator=generator) * torch.tensor([1344.0, 800.0])
    half = 4 * 50 ** torch.rand(total, 2, generator=generator)
    image = torch.arange(batch).repeat_interleave(boxes)
    classes = torch.randint(CLASSES, (total,), generator=generator)
    gt = GroundTruth(torch.cat((center - half, center + half), 1), classes, image)
    noise = torch.randn(batch, len(priors), 4, generator=generator)
    side = (priors.boxes[:, 2:] - priors.boxes[:, :2]).repeat(1, 2)
    logits = torch.randn(batch, len(priors), CLASSES, generator=generator)
    return priors, gt, Predictions(priors.boxes + 0.1 * noise * side, logits)


def dense(rule: Rule, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Tensor:
    """gt index (N, P) over all pairs; one image after the other, as in the releases."""
    images, first = [], 0
    for n, (boxes, logits) in enumerate(zip(predictions.boxes, predictions.logits, strict=True)):
        here = gt.image == n
        index = rule(Image(priors, gt.boxes[here], gt.classes[here], boxes, logits))
        images.append(torch.where(index >= 0, index + first, index))
        first += int(here.sum())
    return torch.stack(images)


def peak_memory(call: Callable[[], object]) -> int:
    """Bytes allocated at once, at most, above what was there before.

    From the events of PyTorch's allocator, which the profiler records: they also hold what an
    operator takes for itself (a sort's buffers), which a dispatch mode that looks at results cannot
    see, and none of the pages that the process keeps, which its resident size would.
    """
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


def alternate(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """Median seconds of each call; they take turns, so that a busy machine slows all alike.

    A turn is a warm-up call, which is not counted, and repeats for 20 ms, at least one: otherwise
    the fast form would be timed with the caches that the slow one has just filled. A call of more
    than a second needs no warm-up.
    """
    times: list[list[float]] = [[] for _ in calls]
    begin = time.perf_counter()
    turns = 0
    while spent(begin) < seconds or (turns < 3 and spent(begin) < 5 * seconds):
        turns += 1
        for call, record in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if spent(start) > 1:
                record.append(spent(start))
                continue
            turn = time.perf_counter()
            while (start := time.perf_counter()) < turn + 0.02:
                call()
                record.append(spent(start))
    return [statistics.median(record) for record in times]


def spent(start: float) -> float:
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", nargs="+", choices=list(ASSIGNERS), default=list(ASSIGNERS))
    parser.add_argument("--boxes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="of repeats for each row")
    parser.add_argument("--dense-limit", type=float, default=8.0, help="GB the dense form may take")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.batch} x 800 x 1344, {args.threads} threads, torch {torch.__version__}\n")
    print("| rule | boxes per image | ours | dense | faster | ours, peak | dense, peak |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for rule in args.rules:
        for boxes in args.boxes:
            print(row(rule, boxes, args.batch, args.seconds, args.dense_limit), flush=True)


def row(rule: str, boxes: int, batch: int, seconds: float, dense_limit: float) -> str:
    inputs = scene(boxes, batch)
    assigner = ASSIGNERS[rule]()

    def ours() -> Tensor:
        return assigner(*inputs).gt_index

    def other() -> Tensor:
        return dense(DENSE[rule], *inputs)

    head = f"| `{rule}` | {boxes} |"
    estimate = 4 * MATRICES[rule] * len(inputs[0]) * boxes / 1e6
    if estimate > dense_limit * 1e3:
        if rule in SAME:  # ours over all pairs, which may well fit
            compare(rule, ours(), dense(SAME[rule], *inputs))
        [mine] = alternate([ours], seconds)
        memory = peak_memory(ours) / 1e6
        return (
            f"{head} {mine * 1e3:.2f} ms | not run | | {memory:.2f} MB | about {estimate:.0f} MB |"
        )
    compare(rule, ours(), dense(SAME.get(rule, DENSE[rule]), *inputs))
    mine, theirs = alternate([ours, other], seconds)
    memory, dense_memory = (peak_memory(call) / 1e6 for call in (ours, other))
    return (
        f"{head} {mine * 1e3:.2f} ms | {theirs * 1e3:.2f} ms | {theirs / mine:.1f} x "
        f"| {memory:.2f} MB | {dense_memory:.1f} MB |"
    )


def compare(rule: str, mine: Tensor, theirs: Tensor) -> None:
    """Raises AssertionError where the gt indices are not the same."""
    assert (mine >= 0).any()
    differ = (mine != theirs).float().mean().item()
    assert differ <= MAY_DIFFER.get(rule, 0), f"{rule}: {differ:.2e} of the labels differ"


if __name__ == "__main__":
    main()
