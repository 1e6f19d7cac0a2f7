"""Compares two runs of a training: their losses by iteration, and their final weights.

Two runs that round differently drift apart, because each step starts from the weights of the last
one. So the tolerance grows with the iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dynamic_atss.engine.metrics import read_metrics
from dynamic_atss.weights.unpickle import read_checkpoint

# Relative difference of two losses in the first iteration, where only rounding differs.
# Convolutions in float32 have 10 bits on a GPU (TF32), and bfloat16 has 8.
FIRST = {"float32": 5e-3, "bfloat16": 2e-2}
# Growth of the tolerance in an iteration, and its end. On a CPU, two runs in float32 that add in
# another order, or one in bfloat16 beside one in float32, differ by 1e-7 or 1e-4 at first, by 0.5 %
# after 10 to 20 iterations, and by 2.4 % at most in 50. The means of the last third differ by
# 0.5 %. A GPU's model is larger and learns faster, so that the same noise is more of the loss.
GROWTH, LARGEST = 1.06, 0.15
LAST_THIRD = 0.03

Losses = Sequence[dict[str, Any]]


def tolerance(dtype: str, iteration: int) -> float:
    """Returns the relative difference of the losses that is allowed in an iteration, from 1."""
    return float(min(FIRST[dtype] * GROWTH ** (iteration - 1), LARGEST))


def apart(lines: Losses, others: Losses, dtype: str) -> list[str]:
    """Lists the first iteration whose losses differ too much, and a difference of the end.

    The means of the last third are closer than single losses, unless a run learns otherwise.
    """
    both = list(zip(lines, others, strict=False))
    if len(lines) != len(others):
        return [f"{len(lines)} iterations beside {len(others)}"]
    found = []
    for one, other in both:
        limit = tolerance(dtype, one["iteration"])
        if difference(one, other) > limit:
            found.append(
                f"the loss of iteration {one['iteration']} is {one['loss']:.6g} beside "
                f"{other['loss']:.6g}, which differs by more than {limit:.2g}"
            )
            break
    last = both[-max(len(both) // 3, 1) :]
    means = [sum(pair[n]["loss"] for pair in last) / len(last) for n in (0, 1)]
    if abs(means[0] / means[1] - 1) > LAST_THIRD:
        found.append(f"the losses of the last third are {means[0]:.4g} beside {means[1]:.4g}")
    return found


def difference(line: dict[str, Any], other: dict[str, Any]) -> float:
    """Returns the relative difference of two losses."""
    return float(abs(line["loss"] / other["loss"] - 1))


def largest_difference(run: Path, other: Path, start: int) -> tuple[float, float]:
    """Returns the largest relative difference of a loss after `start`, and of a tensor.

    That of a tensor is relative to its norm. Both are 0 if all bits are equal.
    """
    lines, others = (
        {line["iteration"]: line for line in read_metrics(path / "metrics.jsonl")}
        for path in (run, other)
    )
    later = [i for i in lines if i > start]
    of_losses = max(difference(lines[i], others[i]) for i in later)
    ours, theirs = (read_checkpoint(path / "model_final.pth")["model"] for path in (run, other))
    of_weights = [_of_tensor(ours[name], theirs[name]) for name in ours]
    return of_losses, max(of_weights)


def _of_tensor(a: torch.Tensor, b: torch.Tensor) -> float:
    if torch.equal(a, b):
        return 0.0
    a, b = a.double(), b.double()
    return float((a - b).norm() / b.norm().clamp(min=1e-12))
