"""Makes the parameter groups of the releases, and gives the learning rate by iteration."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
_POSITIONS = ("relative_position_bias_table", "pos_embed")  # not biases, in spite of the names


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
    """Groups parameters by learning rate and weight decay, by their names as in the releases.

    Each group has its learning rate also as `base_lr`, which schedules multiply by their factor.

    Args:
        lr: learning rate of weights.
        weight_decay: decay of weights, of norms' weights, of scales and of position tables.
        bias_lr_factor: factor of the rate of parameters with "bias" in their name.
        bias_weight_decay: decay of these biases.
        norm_weight_decay: if 0 or more, the decay of norms, with their biases, and of position
            tables of transformers.
        norm_bias_lr_factor: if 0 or more, the factor of the rate of biases of norms and of offset
            convolutions, which then decay like weights, as in mmdetection.
        offset_lr_factor: factor of the rate of the offsets of deformable convolutions.
        part_lr_factors: further factors, by the beginning of the parameters' names.
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
        for part, part_factor in (part_lr_factors or {}).items():
            factor *= part_factor if name.startswith(part) else 1.0
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
    """Makes a factor by 0-based iteration: `gamma` to the power of the number of steps reached."""
    return lambda i: gamma ** bisect_right(list(steps), i)


def cosine(max_iter: int) -> Callable[[int], float]:
    """Makes a factor by 0-based iteration: half a cosine from 1 to 0 at `max_iter`."""
    return lambda i: 0.5 * (1 + math.cos(math.pi * i / max_iter))


def warmed_up(
    schedule: Callable[[int], float], method: str, factor: float, iterations: int
) -> Callable[[int], float]:
    """Adds a warm-up to a schedule.

    In the first `iterations` the schedule is multiplied by `factor` (method "constant"), or by a
    factor that rises from `factor` to 1 (method "linear").
    """

    def factor_at(i: int) -> float:
        if i >= iterations:
            return schedule(i)
        done = i / iterations if method == "linear" else 0.0
        return schedule(i) * (factor * (1 - done) + done)

    return factor_at


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Sets the rate of every group to its `base_lr` times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
