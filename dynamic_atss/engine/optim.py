"""The releases' parameter groups, and the learning rate as a function of the iteration."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
_POSITIONS = ("relative_position_bias_table", "pos_embed")  # not biases, for all their names


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    bias_lr_factor: float = 2.0,
    bias_weight_decay: float = 0.0,
    norm_weight_decay: float = -1.0,
    norm_bias_lr_factor: float = -1.0,
    offset_lr_factor: float = 1.0,
    part_lr_factors: Mapping[str, float] | None = None,
) -> list[dict]:
    """Groups by the releases' rule, which goes by names.

    Parameters with "bias" in it, of norms too, learn `bias_lr_factor` times as fast and decay by
    `bias_weight_decay`; the weights of norms and the scales decay like all others, and so do
    position tables of transformers; offset convolutions of deformable ones have a factor of their
    own. A `norm_weight_decay` of 0 or more is that of norms, their biases too, and of position
    tables. With a `norm_bias_lr_factor` of 0 or more the biases of norms and of offset convolutions
    learn by it and decay like weights, as in mmdetection. Each group keeps its rate at factor 1 as
    `base_lr`.

    Args:
        part_lr_factors: further factors, each by what the names of its parameters begin with.
    """
    norms = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        position = name.endswith(_POSITIONS)
        bias = "bias" in name and not position
        of_norm, of_offset = id(parameter) in norms, ".offset." in name
        factor = bias_lr_factor if bias else 1.0
        if bias and norm_bias_lr_factor >= 0 and (of_norm or of_offset):
            bias, factor = False, norm_bias_lr_factor
        factor *= offset_lr_factor if of_offset else 1.0
        for part, own in (part_lr_factors or {}).items():
            factor *= own if name.startswith(part) else 1.0
        decay = bias_weight_decay if bias else weight_decay
        if norm_weight_decay >= 0 and (position or of_norm):
            decay = norm_weight_decay
        key = (lr * factor, decay)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def multistep(steps: Sequence[int], gamma: float) -> Callable[[int], float]:
    """Factor by 0-based iteration: `gamma` to the number of `steps` reached."""
    return lambda i: gamma ** bisect_right(list(steps), i)


def cosine(max_iter: int) -> Callable[[int], float]:
    """Factor by 0-based iteration: half a cosine from 1 to 0 at `max_iter`."""
    return lambda i: 0.5 * (1 + math.cos(math.pi * i / max_iter))


def warmed_up(
    schedule: Callable[[int], float], method: str, factor: float, iterations: int
) -> Callable[[int], float]:
    """`schedule` with the first `iterations` scaled: by `factor` ("constant"), or from `factor` to
    1 ("linear")."""

    def factor_at(i: int) -> float:
        if i >= iterations:
            return schedule(i)
        done = i / iterations if method == "linear" else 0.0
        return schedule(i) * (factor * (1 - done) + done)

    return factor_at


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's rate = its `base_lr` times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
