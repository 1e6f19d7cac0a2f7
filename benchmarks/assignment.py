"""Time and peak memory of the assignment rules beside the same rules over all P x T pairs.

    python benchmarks/assignment.py [--boxes 1 10 100 1000 5000] [--batch 1] [--threads 2]

One image of 800 x 1344 has 22,400 priors. The dense form is plain PyTorch, vectorised over boxes as
the releases are: distances, inside tests and IoUs of every prior with every box, image by image.
Both must give the same gt index on every prior. Medians of repeats that alternate in one process.
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
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.boxes import centers, iou, sides
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions, Priors

SIZES = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
RULES = ("dynamic_atss", "atss")


def scene(boxes: int, batch: int) -> tuple[Priors, GroundTruth, Predictions]:
    """Random boxes of sides 8 to 400 pixels, and predictions near the priors."""
    generator = torch.Generator().manual_seed(boxes)
    make = AnchorGenerator((8, 16, 32, 64, 128), (64, 128, 256, 512, 1024))
    priors = make(SIZES, torch.device("cpu"))
    total = boxes * batch
    center = torch.rand(total, 2, generator=generator) * torch.tensor([1344.0, 800.0])
    half = 4 * 50 ** torch.rand(total, 2, generator=generator)
    image = torch.arange(batch).repeat_interleave(boxes)
    gt = GroundTruth(torch.cat((center - half, center + half), 1), torch.zeros_like(image), image)
    noise = torch.randn(batch, len(priors), 4, generator=generator)
    predicted = priors.boxes + 0.1 * noise * (priors.boxes[:, 2:] - priors.boxes[:, :2]).repeat(
        1, 2
    )
    return priors, gt, Predictions(predicted, torch.zeros(batch, len(priors), 1))


def dense(rule: str, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Tensor:
    """gt index (N, P), or -1, of `rule` over all pairs; one image after the other."""
    images, first = [], 0
    for n, boxes in enumerate(predictions.boxes):
        here = gt.boxes[gt.image == n]
        index = dense_image(rule, priors, here, boxes)
        images.append(torch.where(index >= 0, index + first, -1))
        first += len(here)
    return torch.stack(images)


def dense_image(rule: str, priors: Priors, gt: Tensor, predicted: Tensor, topk: int = 9) -> Tensor:
    """(P,) of one image with T > 0 boxes; every matrix is (P, T)."""
    score = anchor = iou(priors.boxes[:, None], gt[None], extra=1)
    terms = [anchor]
    if rule == "dynamic_atss":
        terms = [iou(predicted[:, None], gt[None], extra=1), anchor]
        score = terms[0] + anchor
    distance = (priors.centers[:, None] - centers(gt)[None]).square().sum(-1).sqrt()
    candidates, first = [], 0
    for level in priors.levels:
        part = distance[first : first + level.locations]
        k = min(topk, level.locations)
        candidates.append(first + part.topk(k, dim=0, largest=False).indices)
        first += level.locations
    candidate = torch.cat(candidates)  # (K, T)
    at = [term.gather(0, candidate) for term in terms]
    threshold = sum(x.mean(0) for x in at) + sum(x.std(0) for x in at)
    # The inside test is per pair, as in the releases.
    boxes = gt[None].expand(len(candidate), -1, -1)
    inside = sides(priors.centers[candidate], boxes).amin(-1) > 0.01
    selected = inside & (score.gather(0, candidate) >= threshold)
    wanted = torch.full_like(score, -torch.inf)
    kept = torch.where(selected, score.gather(0, candidate), -torch.inf)
    wanted.scatter_(0, candidate, kept)
    best, index = wanted.max(dim=1)
    return torch.where(best > -torch.inf, index, -1)


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
    the fast form would be timed with the caches that the slow one has just filled.
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    turns = 0
    while turns < 3 or time.perf_counter() < end:
        turns += 1
        for call, record in zip(calls, times, strict=True):
            call()
            turn = time.perf_counter()
            while (start := time.perf_counter()) < turn + 0.02:
                call()
                record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 10, 100, 1000, 5000])
    parser.add_argument("--batch", type=int, default=1, help="images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="of repeats for each row")
    parser.add_argument("--dense-limit", type=float, default=8.0, help="GB the dense form may take")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.batch} x 800 x 1344, {args.threads} threads, torch {torch.__version__}\n")
    print("| rule | boxes per image | ours | dense | faster | ours, peak | dense, peak |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for rule in RULES:
        for boxes in args.boxes:
            print(row(rule, boxes, args.batch, args.seconds, args.dense_limit), flush=True)


def row(rule: str, boxes: int, batch: int, seconds: float, dense_limit: float) -> str:
    inputs = scene(boxes, batch)
    assigner = ASSIGNERS[rule]()

    def ours() -> Tensor:
        return assigner(*inputs).gt_index

    def other() -> Tensor:
        return dense(rule, *inputs)

    head = f"| `{rule}` | {boxes} |"
    # At most 9 float32 matrices of P x T live at once (measured, Dynamic ATSS).
    if 9 * 4 * len(inputs[0]) * boxes > dense_limit * 1e9:
        [mine] = alternate([ours], seconds)
        return f"{head} {mine * 1e3:.2f} ms | not run | | {peak_memory(ours) / 1e6:.2f} MB | |"
    assert torch.equal(ours(), other()), f"{rule}: labels differ at {boxes} boxes"
    mine, theirs = alternate([ours, other], seconds)
    memory = [peak_memory(call) / 1e6 for call in (ours, other)]
    return (
        f"{head} {mine * 1e3:.2f} ms | {theirs * 1e3:.2f} ms | {theirs / mine:.1f} x "
        f"| {memory[0]:.2f} MB | {memory[1]:.1f} MB |"
    )


if __name__ == "__main__":
    main()
