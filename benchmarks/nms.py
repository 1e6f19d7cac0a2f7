"""Compares class-wise NMS of a batch with torchvision's, image by image.

    python benchmarks/nms.py [--candidates 1000 5000] [--batch 1 16] [--threads 2]

Candidates resemble those of a detector: two thirds are clusters around 30 objects of an image,
mostly of the object's class. A third lie anywhere. "one class" puts all into one class, as for
people in a crowd. Boxes are EXACT, as in torchvision. The kept boxes and their order must be those
of torchvision in float64. Its float32 separates classes by an offset, which rounds the coordinates.
The limit is a copy of the candidates, which every NMS has to read. On a GPU the goal is to be twice
as fast as torchvision's faster form.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from common import main, measure
from torch import Tensor
from torchvision.ops import batched_nms

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ops.nms import batched_multiclass_nms

THRESHOLD = 0.6
CLASSES = 80
OBJECTS = 30
Candidates = tuple[Tensor, Tensor, Tensor]
Kept = list[Tensor]


def scene(batch: int, candidates: int, classes: int, device: str) -> Candidates:
    """Makes boxes (N, K, 4) in an image of 1333 x 800, scores (N, K) and classes (N, K)."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    center = random(batch, OBJECTS, 2) * torch.tensor([1333.0, 800.0])
    side = 16 * 25 ** random(batch, OBJECTS, 2)
    of_object = torch.randint(classes, (batch, OBJECTS), generator=generator)
    pick = torch.randint(OBJECTS, (batch, candidates), generator=generator)
    at, size = (x.gather(1, pick[..., None].expand(-1, -1, 2)) for x in (center, side))
    noise = torch.randn(batch, candidates, 4, generator=generator)
    at = at + 0.1 * size * noise[..., :2]
    size = size * (0.15 * noise[..., 2:]).exp()
    anywhere = random(batch, candidates) < 1 / 3
    at = torch.where(
        anywhere[..., None], random(batch, candidates, 2) * torch.tensor([1333.0, 800.0]), at
    )
    guess = torch.randint(classes, (batch, candidates), generator=generator)
    label = torch.where(
        anywhere | (random(batch, candidates) < 0.2), guess, of_object.gather(1, pick)
    )
    boxes = torch.cat((at - size / 2, at + size / 2), 2)
    scores = random(batch, candidates) * 0.95 + 0.05
    return boxes.to(device), scores.to(device), label.to(device)


def ours(candidates: Candidates, limit: int | None) -> Kept:
    keep, counts = batched_multiclass_nms(*candidates, THRESHOLD, BoxConvention.EXACT, limit=limit)
    return [row[:count] for row, count in zip(keep, counts.tolist(), strict=True)]


def by_image(candidates: Candidates, limit: int | None) -> Kept:
    return [batched_nms(*image, THRESHOLD)[:limit] for image in zip(*candidates, strict=True)]


def at_once(candidates: Candidates, limit: int | None) -> Kept:
    """Makes one call, with a group for each class of each image; then splits the images."""
    boxes, scores, classes = candidates
    batch, count = scores.shape
    group = classes + CLASSES * torch.arange(batch, device=classes.device)[:, None]
    keep = batched_nms(boxes.flatten(0, 1), scores.flatten(), group.flatten(), THRESHOLD)
    image = keep // count
    return [keep[image == n][:limit] - n * count for n in range(batch)]


def compare(candidates: Candidates, limit: int | None) -> str:
    """Says what was compared. Raises AssertionError if other boxes are kept."""
    boxes, scores, classes = candidates
    expected = by_image((boxes.double(), scores.double(), classes), limit)
    for n, (mine, theirs) in enumerate(zip(ours(candidates, limit), expected, strict=True)):
        assert torch.equal(mine, theirs), (
            f"image {n}: {len(mine)} and {len(theirs)} kept, or not the same"
        )
    kept = sum(map(len, expected)) / len(expected)
    return f"the same boxes kept, {kept:.0f} an image"


def case_rows(
    batch: int, count: int, classes: int, limit: int | None, args: argparse.Namespace
) -> list[dict[str, Any]]:
    candidates = scene(batch, count, classes, args.device)
    peers: dict[str, Callable[[], Kept]] = {
        "torchvision batched_nms per image": lambda: by_image(candidates, limit)
    }
    if batch > 1:
        peers["torchvision batched_nms, one call"] = lambda: at_once(candidates, limit)
    named = "one class" if classes == 1 else f"{classes} classes"
    first = "" if limit is None else f", the best {limit}"
    found = measure(
        *(
            "NMS",
            f"{batch} x {count}, {named}{first}",
            lambda: ours(candidates, limit),
            peers,
            args,
        ),
        limit="copy of the candidates",
        at_limit=lambda: [part.clone() for part in candidates],
        same=compare(candidates, limit),
        memory=args.device == "cuda",  # on the CPU, little of it is PyTorch's
    )
    return with_goal(found) if args.device == "cuda" else found


def with_goal(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the ratio to the fastest peer to the rows of a case."""
    ratio = min(row["ratio"] for row in found)
    added = {"note": f"{ratio:.3g} x the fastest (goal: 2 x)", "numbers": {"times_peer": ratio}}
    return [{**row, **added} for row in found]


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.quick:
        args.candidates, args.batch = args.candidates[:1], args.batch[:2]
    several = [(*case, CLASSES, None) for case in product(args.batch, args.candidates)]
    largest = args.batch[-1], args.candidates[-1]
    cases = [*several, (*largest, CLASSES, 100), (*largest, 1, None)]
    return [row for case in cases for row in case_rows(*case, args)]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--candidates",
        type=int,
        nargs="+",
        default=[1000, 5000],
        help="number of candidates in an image",
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="number of images")


if __name__ == "__main__":
    main(__doc__, rows, arguments)
