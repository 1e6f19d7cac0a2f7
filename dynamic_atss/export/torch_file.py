"""The traced detector as a file of torch.export, or compiled by AOTInductor. Both are read by torch
alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

ABOUT = "metadata.json"  # the file in a .pt2 of torch.export

Runner = Callable[..., Sequence[Tensor]]


def write_torch(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """`torch.export.load` reads it; `extra_files={"metadata.json": ""}` gets what it says."""
    torch.export.save(program, path, extra_files={ABOUT: json.dumps(dict(about))})


def write_aoti(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """`torch._inductor.aoti_load_package` reads it; its `get_metadata()` tells what it says."""
    options = {"aot_inductor.metadata": dict(about)}
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs=options
    )


def torch_runner(path: Path) -> Runner:
    return torch.export.load(path).module()


def aoti_runner(path: Path) -> Runner:
    return torch._inductor.aoti_load_package(str(path))
