"""Compares focal losses, forward and backward, with sparse and with dense targets.

    python benchmarks/focal.py [--batch 16] [--priors 22400] [--classes 80] [--threads 2]

One image of 800 x 1344 has 22,400 priors (M); one in 300 is a positive. Ours reads a class index
for each prior. The peers read targets (M, C), which are made before the timing. They are
torchvision's focal loss, and the formula of the papers with autograd. A `torch.sigmoid` over the
logits is timed, too. The limit is a copy of the logits: it reads the logits and writes as much as
the gradient. On a GPU the note says which share of the copy's bandwidth ours reaches (goal: 70 %).
Loss and gradient must agree before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from common import main, measure
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from dynamic_atss.ops.focal import quality_focal_loss, sigmoid_focal_loss, varifocal_loss

GAMMA = 2.0
# Tolerance of the loss, and of the gradient relative to its largest entry. bfloat16 has 8 bits.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
DTYPES = [str(dtype).removeprefix("torch.") for dtype in TOLERANCE]


@dataclass(frozen=True)
class Scene:
    """Holds the inputs of the losses.

    Attributes:
        logits: (M, C), with gradient.
        classes: (M,), -1: background.
        quality: (M,).
        hard, soft: (M, C) dense targets, 1 or the quality at the class of a positive.
    """

    logits: Tensor
    classes: Tensor
    quality: Tensor
    hard: Tensor
    soft: Tensor


def scene(rows: int, classes: int, dtype: torch.dtype, device: str) -> Scene:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(rows, classes, generator=generator) * 2 - 4).to(device, dtype)
    index = torch.randint(classes, (rows,), generator=generator)
    positive = torch.rand(rows, generator=generator) < 1 / 300
    index = torch.where(positive, index, -1).to(device)
    quality = torch.rand(rows, generator=generator).to(device)
    hard = F.one_hot(index.clamp(min=0), classes).to(dtype) * (index >= 0).to(dtype)[:, None]
    soft = hard * quality.to(dtype)[:, None]
    return Scene(logits.requires_grad_(), index, quality, hard, soft)


def plain_focal(s: Scene) -> Tensor:
    p = s.logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(s.logits, s.hard, reduction="none")
    at = p * s.hard + (1 - p) * (1 - s.hard)
    alpha = 0.25 * s.hard + 0.75 * (1 - s.hard)
    return (alpha * (1 - at) ** GAMMA * entropy).sum()


def plain_quality_focal(s: Scene) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(s.logits, s.soft, reduction="none")
    return ((s.soft - s.logits.sigmoid()).abs() ** GAMMA * entropy).sum()


def plain_varifocal(s: Scene) -> Tensor:
    entropy = F.binary_cross_entropy_with_logits(s.logits, s.soft, reduction="none")
    # As in the release, the gradient also goes through the weights.
    weight = torch.where(s.soft > 0, s.soft, 0.75 * s.logits.sigmoid() ** GAMMA)
    return (weight * entropy).sum()


Loss = Callable[[Scene], Tensor]
OURS: dict[str, Loss] = {
    "focal": lambda s: sigmoid_focal_loss(s.logits, s.classes, 0.25, GAMMA),
    "quality focal": lambda s: quality_focal_loss(s.logits, s.classes, s.quality, GAMMA),
    "varifocal": lambda s: varifocal_loss(s.logits, s.classes, s.quality, 0.75, GAMMA),
}
PEERS: dict[str, dict[str, Loss]] = {
    "focal": {
        "plain formula": plain_focal,
        "torchvision sigmoid_focal_loss": lambda s: torchvision_focal(
            s.logits, s.hard, 0.25, GAMMA, "sum"
        ),
    },
    "quality focal": {"plain formula": plain_quality_focal},
    "varifocal": {"plain formula": plain_varifocal},
}


def step(loss: Loss, s: Scene) -> Callable[[], tuple[Tensor, Tensor]]:
    """Computes loss and gradient."""

    def call() -> tuple[Tensor, Tensor]:
        value = loss(s)
        return value, *torch.autograd.grad(value, s.logits)

    return call


def compare(mine: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> str:
    """Says the largest relative differences. Raises AssertionError if they are too large."""
    tolerance = TOLERANCE[theirs[1].dtype]
    differ = []
    for a, b in zip(mine, theirs, strict=True):
        difference = (a.double() - b.double()).abs().max() / b.double().abs().max()
        differ.append(difference.item())
    assert max(differ) <= tolerance, f"loss, gradient differ by {differ}"
    return f"loss {differ[0]:.0e}, gradient {differ[1]:.0e}"


def case_rows(
    kind: str, batch: int, priors: int, classes: int, dtype: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    s = scene(batch * priors, classes, getattr(torch, dtype), args.device)
    ours, name = step(OURS[kind], s), f"{kind}, {batch} x {priors} x {classes} {dtype}"
    peers = {peer: step(loss, s) for peer, loss in PEERS[kind].items()}
    exact = scene(batch * priors, classes, torch.float32, args.device)
    with torch.no_grad():
        exact.logits.copy_(s.logits)
    exact = Scene(exact.logits, s.classes, s.quality, exact.hard, exact.soft)
    reference = step(next(iter(PEERS[kind].values())), exact)()
    same = compare(ours(), (reference[0], reference[1].to(s.logits.dtype)))
    logits, target = s.logits.detach(), torch.empty_like(s.logits)
    peers["torch.sigmoid of the logits"] = lambda: torch.sigmoid(logits)
    found = measure(
        *("focal losses", name, ours, peers, args),
        limit="copy of the logits",
        at_limit=lambda: target.copy_(logits),
        same=same,
        note=f"the gradient has {logits.nbytes / 1e6:.2f} MB",
    )
    found[-1]["same"] = ""  # a sigmoid is no loss
    return [with_bandwidth(row) for row in found] if args.device == "cuda" else found


def with_bandwidth(row: dict[str, Any]) -> dict[str, Any]:
    """Adds the share of the copy's bandwidth. Both read the logits and write as much."""
    share = row["limit_s"] / row["ours_s"]
    note = f"{row['note']}; {share:.0%} of the copy's bandwidth (goal: 70 %)"
    return {**row, "note": note, "numbers": {"share_of_copy": share}}


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.quick:
        args.batch = min(args.batch, 2)
    size = args.batch, args.priors, args.classes
    return [
        row for kind in OURS for dtype in args.dtypes for row in case_rows(kind, *size, dtype, args)
    ]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--priors", type=int, default=22400, help="number of priors of the image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES[:2])


if __name__ == "__main__":
    main(__doc__, rows, arguments)
