"""Builds the optimizer and the learning rate schedule from the configuration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from yacs.config import CfgNode

from dynamic_atss.engine.optim import cosine, multistep, parameter_groups, warmed_up
from dynamic_atss.weights.classes import ONE_TO_ONE


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Builds SGD or AdamW with the parameter groups of the releases.

    With SOLVER.FUSED, one kernel updates all weights, if they are on a GPU.
    """
    groups = parameter_groups(
        model,
        lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        bias_weight_decay=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        norm_weight_decay=cfg.SOLVER.WEIGHT_DECAY_NORM,
        norm_bias_lr_factor=cfg.SOLVER.NORM_BIAS_LR_FACTOR,
        offset_lr_factor=cfg.SOLVER.DCONV_OFFSETS_LR_FACTOR,
        part_lr_factors={ONE_TO_ONE: cfg.MODEL.ONE_TO_ONE.LR_FACTOR},
    )
    on_gpu = all(p.is_cuda for group in groups for p in group["params"])
    # None: PyTorch chooses, which is a loop on a CPU. Its fused kernels round otherwise there.
    fused = True if cfg.SOLVER.FUSED and on_gpu else None
    if cfg.SOLVER.OPTIMIZER == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    return torch.optim.SGD(groups, momentum=cfg.SOLVER.MOMENTUM, fused=fused)


def long_warmup(cfg: CfgNode) -> str:
    """Returns a warning if the warm-up is not shorter than the training, else ""."""
    solver = cfg.SOLVER
    if solver.WARMUP_ITERS < solver.MAX_ITER:
        return ""
    reached = max(map(build_lr_factor(cfg), range(solver.MAX_ITER)))
    return (
        f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS:,}: the warm-up is not shorter than the "
        f"training (SOLVER.MAX_ITER {solver.MAX_ITER:,}): the learning rate reaches only "
        f"{100 * reached:.3g} % of SOLVER.BASE_LR; lower SOLVER.WARMUP_ITERS or train longer"
    )


def build_lr_factor(cfg: CfgNode) -> Callable[[int], float]:
    """Returns the function from iteration (from 0) to the factor of all learning rates."""
    solver = cfg.SOLVER
    schedule = (
        cosine(solver.MAX_ITER)
        if solver.SCHEDULE == "cosine"
        else multistep(solver.STEPS, solver.GAMMA)
    )
    return warmed_up(schedule, solver.WARMUP_METHOD, solver.WARMUP_FACTOR, solver.WARMUP_ITERS)
