"""Reads the devices of a comparison. Each device runs one process at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from dynamic_atss.errors import UserError


class Device(NamedTuple):
    """Describes a device of --devices.

    Attributes:
        name: the device as typed.
        kind: the value of MODEL.DEVICE.
        environment: variables of its processes.
    """

    name: str
    kind: str
    environment: Mapping[str, str]


def devices(names: Sequence[str]) -> list[Device]:
    """Reads names such as "cpu", "cuda", "cuda:1" and "auto". A repeated name runs two processes.

    Divides the cores among several processes on the CPU, unless OMP_NUM_THREADS is set.

    Raises:
        UserError: a device does not exist.
    """
    found = [_device(name) for name in names]
    on_cpu = sum(device.kind == "cpu" for device in found)
    if on_cpu < 2 or "OMP_NUM_THREADS" in os.environ:
        return found
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // on_cpu))}
    return [x._replace(environment=threads) if x.kind == "cpu" else x for x in found]


def _device(name: str) -> Device:
    if name in ("auto", "cpu"):
        return Device(name, name, {})
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise UserError(f"--devices {name!r}: give cpu, cuda:0, cuda:1, ... or auto")
    number, count = int(match[1] or 0), torch.cuda.device_count()
    if number >= count:
        known = f"{count} GPU{'s' if count > 1 else ''}" if count else "no GPU"
        raise UserError(f"--devices {name}: torch sees {known}; choose another device, or cpu")
    # The number counts the devices that this process may see, not those of the system.
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    visible = seen.split(",") if seen else [*map(str, range(count))]
    return Device(name, "cuda", {"CUDA_VISIBLE_DEVICES": visible[number]})
