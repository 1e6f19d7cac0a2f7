"""Compiles operators of csrc/*.cu with their host code for the CPU by cuda_on_cpu.h."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from helpers_cuda_on_cpu import HERE, KERNELS
from torch.utils import cpp_extension

LAUNCH = re.compile(r"(\w+(?:<[^<>;]*>)?)<<<(.+?), (\w+), 0, stream>>>\(", re.DOTALL)
FLAGS = """-std=c++17 -O1 -fPIC -shared -Wno-unknown-pragmas
    -DTORCH_TARGET_VERSION=0x020a000000000000 -DTORCH_STABLE_ONLY""".split()
# By default, nvcc contracts a product and a sum.
CONTRACTED = ["-ffp-contract=fast", "-mfma"]
ROUNDING = {
    "as a CPU": ["-ffp-contract=off"],
    "as a GPU, up": [*CONTRACTED, "-DROUND_TOWARDS=INFINITY"],
    "as a GPU, down": [*CONTRACTED, "-DROUND_TOWARDS=0"],
}


def for_cpu(source, namespace):
    """Rewrites CUDA's syntax as C++, and registers the operators for the CPU in a new namespace."""
    source = LAUNCH.sub(r"cuda_on_cpu::launch(dim3(\2), dim3(\3), \1, ", source)
    source = re.sub(r"\n.*DeviceGuard guard\(.*\);", "", source)
    source = source.replace("is_cuda()", "is_cpu()")
    return source.replace("(dynamic_atss, CUDA, m)", f"({namespace}, CPU, m)")


def has_fma():
    """Returns True if this processor multiplies and adds in one instruction."""
    info = Path("/proc/cpuinfo")
    return info.is_file() and " fma " in info.read_text(errors="replace")


def operators(name, folder, rounding="as a CPU"):
    """Compiles csrc/<name>.cu into `folder`. Gives torch.ops.<namespace>.<op>.

    Args:
        rounding: a key of ROUNDING.
    """
    compiler, namespace = shutil.which("g++"), f"{name}_cu_{list(ROUNDING).index(rounding)}_on_cpu"
    if compiler is None:
        pytest.skip("no g++ here, which the kernels are compiled with for the CPU")
    if rounding != "as a CPU" and not has_fma():
        pytest.skip("this processor has no instruction that multiplies and adds")
    source = (KERNELS / f"{name}.cu").read_text()
    (folder / "source.cpp").write_text(for_cpu(source, namespace))
    for op in re.findall(r'm\.impl\("(\w+)"', source):
        schema = str(getattr(torch.ops.dynamic_atss, op).default._schema)
        torch.library.define(f"{namespace}::{op}", schema[schema.index("(") :])
    includes = [HERE / "on_cpu", KERNELS, *cpp_extension.include_paths()]
    includes = [flag for place in includes for flag in ("-I", place)]
    libraries = [f"-L{place}" for place in cpp_extension.library_paths()]
    libraries += ["-ltorch", "-ltorch_cpu", "-lc10"]
    command = [
        compiler,
        *FLAGS,
        *ROUNDING[rounding],
        *includes,
        folder / "source.cpp",
        "-o",
        folder / "operators.so",
    ]
    subprocess.run([*command, *libraries], check=True)
    torch.ops.load_library(folder / "operators.so")
    return getattr(torch.ops, namespace)
