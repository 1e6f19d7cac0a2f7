"""Knows the peak speed of some GPUs."""

from __future__ import annotations

import re

import torch

# 10^12 dense operations a second, from NVIDIA's data sheets of the SXM boards. float32: in TF32.
HOPPER = {"bfloat16": 989.0, "float32": 494.7}


def peak_of(name: str, dtype: str) -> float | None:
    """Returns the peak in 10^12 operations a second; None if it is not known.

    Args:
        name: as torch.cuda.get_device_name gives it.
        dtype: "bfloat16" or "float32".
    """
    slower = re.search(r"\b(PCIe|NVL|MIG)\b", name)  # boards and parts with lower clocks
    known = re.search(r"\bH[12]00\b", name) and not slower
    return HOPPER.get(dtype) if known else None


def peak_of_gpu(dtype: str) -> float | None:
    """Returns the peak of this machine's GPU; None if it is not known."""
    return peak_of(torch.cuda.get_device_name(), dtype) if torch.cuda.is_available() else None
