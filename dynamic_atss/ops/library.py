"""Defines the native operators and loads their compiled kernels.

Every operator has a plain PyTorch reference that works on every device. The compiled libraries add
kernels for the CPU and for CUDA. Without a kernel the reference is used, which is slower. Both
agree up to rounding: sums have another order, and the last digit of PyTorch's roots, exponentials
and logarithms depends on the processor.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from dynamic_atss.errors import UserError
from dynamic_atss.ops import sources

NAMESPACE = "dynamic_atss"
COMPILED = {"cpu": "NMS, focal losses, assignment", "cuda": "NMS, focal losses"}
FOLDER = Path(__file__).parent
CAPABILITIES = ("avx512", "avx2", "plain")  # limits that csrc/vectors.h accepts


def define(
    schema: str, reference: Callable[..., Any], fake: Callable[..., Any]
) -> torch._ops.OpOverload:
    """Defines the operator `dynamic_atss::<schema>`.

    Args:
        schema: "name(Tensor x, ...) -> Tensor", as for torch.library.
        reference: computes the result in plain PyTorch.
        fake: computes only shapes and dtypes of the result.
    """
    name = f"{NAMESPACE}::{schema.split('(')[0]}"
    torch.library.define(name, schema[schema.index("(") :])
    torch.library.impl(name, "CompositeExplicitAutograd", reference)
    torch.library.register_fake(name, fake)
    return getattr(torch.ops.dynamic_atss, name.split("::")[1]).default


@lru_cache(maxsize=1)
def load() -> dict[str, str]:
    """Loads the compiled libraries once.

    The environment variable DYNAMIC_ATSS_NATIVE chooses the kernels. 0: none. 1: those of the
    package. A folder: those in it. DYNAMIC_ATSS_CPU_CAPABILITY limits the vectors of the CPU
    kernels to one of CAPABILITIES.

    Returns:
        for "cpu" and "cuda", "native" or the reason why the reference is used.

    Raises:
        UserError: DYNAMIC_ATSS_CPU_CAPABILITY has another value.
    """
    limit = os.environ.get("DYNAMIC_ATSS_CPU_CAPABILITY", "")
    if limit and limit not in CAPABILITIES:
        raise UserError(
            f"DYNAMIC_ATSS_CPU_CAPABILITY={limit}: set one of {', '.join(CAPABILITIES)}, "
            "or unset it"
        )
    return {device: _load(device) for device in ("cpu", "cuda")}


def serving(device: str) -> str:
    """Says for the log how the operators are computed on this type of device."""
    state = load().get(device, "no kernels for this device")
    if state == "native":
        return f"compiled kernels for {COMPILED[device]}"
    return f"plain PyTorch: {state}"


def _load(device: str) -> str:
    place = os.environ.get("DYNAMIC_ATSS_NATIVE", "")
    place = "" if place == "1" else place
    if place == "0":
        return "switched off by DYNAMIC_ATSS_NATIVE=0"
    if device == "cuda" and torch.version.cuda is None:
        return "this PyTorch has no CUDA"
    found = sorted(Path(place or FOLDER).glob(f"_{device}.*so"))
    if place and not found:
        return f"none in DYNAMIC_ATSS_NATIVE={place}"
    if not found:
        return "not compiled (INSTALL.md, Kernels)"
    name, has_sources = found[0].name, sources.FOLDER.is_dir()  # a package may lack the sources
    if not place and has_sources and sources.mark().encode() not in found[0].read_bytes():
        reason = f"{name} was built from other sources; build it again (INSTALL.md, Kernels)"
        warnings.warn(reason, stacklevel=2)
        return reason
    try:
        torch.ops.load_library(found[0])
    except OSError as error:
        reason = f"{name} does not load ({error}); build it again (INSTALL.md, Kernels)"
        warnings.warn(reason, stacklevel=2)
        return reason
    return "native"
