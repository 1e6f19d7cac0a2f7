"""The native operators: their schemas and references in Python, their kernels compiled from csrc/.

An operator is defined here together with a plain PyTorch reference, which serves every device. The
compiled libraries only add kernels to the dispatcher, for the CPU and for CUDA; what they lack goes
to the reference, so that an installation without a compiler computes the same, slower. The two
agree up to rounding: sums have another order, and the last place of PyTorch's own roots,
exponentials and logarithms depends on the processor.
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
CAPABILITIES = ("avx512", "avx2", "plain")  # limits that csrc/vectors.h knows


def define(
    schema: str, reference: Callable[..., Any], fake: Callable[..., Any]
) -> torch._ops.OpOverload:
    """The operator `dynamic_atss::<schema>`.

    Args:
        schema: "name(Tensor x, ...) -> Tensor", as torch.library reads it.
        reference: what it computes, in plain PyTorch.
        fake: the same with shapes only.
    """
    name = f"{NAMESPACE}::{schema.split('(')[0]}"
    torch.library.define(name, schema[schema.index("(") :])
    torch.library.impl(name, "CompositeExplicitAutograd", reference)
    torch.library.register_fake(name, fake)
    return getattr(torch.ops.dynamic_atss, name.split("::")[1]).default


@lru_cache(maxsize=1)
def load() -> dict[str, str]:
    """Loads the compiled libraries, once. For "cpu" and "cuda": "native", or why the reference
    serves.

    Two environment variables change what is loaded. DYNAMIC_ATSS_NATIVE: 0 switches the kernels
    off, 1 means the usual ones, a folder has others (another compiler's, or with checks).
    DYNAMIC_ATSS_CPU_CAPABILITY: the widest vectors that the CPU kernels may use, one of
    CAPABILITIES.

    Raises:
        UserError: for another value of DYNAMIC_ATSS_CPU_CAPABILITY.
    """
    limit = os.environ.get("DYNAMIC_ATSS_CPU_CAPABILITY", "")
    if limit and limit not in CAPABILITIES:
        raise UserError(
            f"DYNAMIC_ATSS_CPU_CAPABILITY={limit}: set one of {', '.join(CAPABILITIES)}, "
            "or unset it"
        )
    return {device: _load(device) for device in ("cpu", "cuda")}


def serving(device: str) -> str:
    """What computes the operators on this type of device, for the log."""
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
    name, known = found[0].name, sources.FOLDER.is_dir()  # a package may come without
    if not place and known and sources.mark().encode() not in found[0].read_bytes():
        reason = f"{name} is of other sources; build it again (INSTALL.md, Kernels)"
        warnings.warn(reason, stacklevel=2)
        return reason
    try:
        torch.ops.load_library(found[0])
    except OSError as error:
        reason = f"{name} does not load ({error}); build it again (INSTALL.md, Kernels)"
        warnings.warn(reason, stacklevel=2)
        return reason
    return "native"
