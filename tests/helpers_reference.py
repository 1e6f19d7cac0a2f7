"""Reads the arrays of the published releases, all or those in tests/golden."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.make import SEEDS, batch_logits, dsla_logits
from torch import Tensor

from dynamic_atss.assigners.base import Assigner
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors, to_device

Tensors = dict[str, Tensor]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def assigned(
    rule: Assigner, priors: Priors, gt: GroundTruth, predictions: Predictions, device: str
) -> Assignment:
    """Calls a rule on a device. Gives its answer on the CPU."""
    if isinstance(rule, torch.nn.Module):
        rule = deepcopy(rule).to(device)  # with what it has learnt
    found = rule(*(to_device(x, device) for x in (priors, gt, predictions)))
    assert found.gt_index.is_cuda == (device == "cuda")
    return to_device(found, "cpu")


def read_arrays(folder: Path, name: str) -> Tensors:
    """Reads arrays from a file, integers as int64. Makes the logits that tests/golden omits."""
    with np.load(folder / name) as file:
        arrays = {k: torch.from_numpy(file[k]) for k in file.files if file[k].dtype.kind != "U"}
    arrays = {k: v if v.is_floating_point() else v.long() for k, v in arrays.items()}
    for case in SEEDS:
        if f"{case}_seed" in arrays:
            arrays |= _logits(arrays, case)
    return arrays


def _logits(arrays: Tensors, case: str) -> Tensors:
    seed, before = arrays[f"{case}_seed"].tolist()
    if case == "batch01":
        return batch_logits(seed, arrays["case00_labels"].shape[0])
    return dsla_logits(case, seed, before, arrays[f"{case}_featmap_sizes"].tolist())


def flat(arrays: Tensors, prefix: str) -> Tensor:
    """Joins the maps (N, C, H, W) of all levels to (N, P, C), unless the file has them joined."""
    if prefix in arrays:
        return arrays[prefix]
    maps = [arrays[f"{prefix}{i}"].flatten(2).transpose(1, 2) for i in range(5)]
    return torch.cat(maps, dim=1)


def kept(values: Tensor, arrays: Tensors, name: str) -> Tensor:
    """Selects from values (N, P, ...) the rows of array `name`: all, or those in tests/golden."""
    rows = arrays.get(f"{name}_rows")
    return values if rows is None else values[tuple(rows.unbind(1))]
