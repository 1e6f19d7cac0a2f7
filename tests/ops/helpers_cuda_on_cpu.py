"""Compiles CUDA kernels for the CPU, with the emulation in cuda_on_cpu.h."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

import dynamic_atss.ops

HERE = Path(__file__).parent
KERNELS = Path(dynamic_atss.ops.__file__).parent / "csrc"


def compiled(source, folder):
    """Compiles tests/ops/<source> into `folder` and loads it. Skips the test without g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here, which the kernels are compiled with for the CPU")
    library = folder / "kernels.so"
    flags = "-std=c++17 -O1 -ffp-contract=off -fPIC -shared -Wno-unknown-pragmas".split()
    places = ["-I", KERNELS, "-I", HERE, HERE / source]
    subprocess.run([compiler, *flags, *places, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def pointer(x):
    return ctypes.c_void_p(None if x is None else x.data_ptr())
