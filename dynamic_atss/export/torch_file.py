"""Writes the traced detector as a file of torch.export, or compiled by AOTInductor.

Such files need only torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from dynamic_atss.errors import UserError

ABOUT = "metadata.json"  # name of the description in a .pt2 of torch.export

COMPILING = "AOTInductor compiles the model with the C++ compiler, which takes minutes"

Runner = Callable[..., Sequence[Tensor]]


def libraries(program: ExportedProgram) -> list[str]:
    """Finds the libraries besides torch that have to be imported before the file is loaded."""
    graphs = (x.graph for x in program.graph_module.modules() if isinstance(x, GraphModule))
    targets = (node.target for graph in graphs for node in graph.nodes)
    names = {x.namespace for x in targets if isinstance(x, torch._ops.OpOverload)}
    return sorted(names - {"aten", "prims"})


def write_torch(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Writes a file for `torch.export.load`.

    Its argument `extra_files={"metadata.json": ""}` receives the description.
    """
    torch.export.save(program, path, extra_files={ABOUT: json.dumps(_with_imports(program, about))})


def write_aoti(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Writes a file for `torch._inductor.aoti_load_package`.

    The loaded package's `get_metadata()` gives the description.

    Raises:
        UserError: there is no C++ compiler.
    """
    _check_compiler()
    print(COMPILING, file=sys.stderr, flush=True)
    options = {"aot_inductor.metadata": _with_imports(program, about)}
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs=options
    )


def _check_compiler() -> None:
    from torch._inductor import cpp_builder  # imported here, because it takes seconds
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError(
            "--format aoti: no C++ compiler is found; install g++, name a compiler by the "
            "environment variable CXX, or use --format torch"
        ) from error


def _with_imports(program: ExportedProgram, about: Mapping[str, str]) -> dict[str, str]:
    return {**about, "imports": json.dumps(["torch", *libraries(program)])}


def torch_runner(path: Path) -> Runner:
    return torch.export.load(path).module()


def aoti_runner(path: Path) -> Runner:
    return torch._inductor.aoti_load_package(str(path))
