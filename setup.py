"""Compiles the kernels of dynamic_atss/ops/csrc where a compiler and PyTorch are found, and puts
the configurations into the package.

    pip install --no-build-isolation .

CUDA kernels are compiled where a toolkit is found and PyTorch has CUDA. What cannot be compiled is
left out with a warning, and plain PyTorch serves in its place; with FORCE_CUDA=1 CUDA kernels that
cannot be compiled are an error. INSTALL.md (Kernels) has the rest.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CSRC = Path("dynamic_atss/ops/csrc")
FORCE_CUDA = os.environ.get("FORCE_CUDA", "0").lower() in ("1", "true", "yes", "on")
DEFAULT_ARCHITECTURES = "8.0;9.0+PTX"  # where no GPU is present
# The stable ABI of torch 2.10: one build serves every torch from there on.
ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DTORCH_STABLE_ONLY", "-DUSE_CUDA"]

VECTORS = ["-fno-math-errno", "-fno-trapping-math"]  # else loops with conditions stay scalar


def find_toolkit() -> str | None:
    """The CUDA toolkit's folder; nvcc itself is asked, as the one on the PATH may be a wrapper."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            return os.environ[name]
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        usual = Path("/usr/local/cuda")
        return str(usual) if (usual / "bin/nvcc").exists() else None
    command = [nvcc, "--dryrun", "-x", "cu", os.devnull, "-o", os.devnull]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    top = re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE)
    return str(Path(top[1].strip()).resolve()) if top else None


def packaged_headers() -> list[str]:
    """Flags for the CUDA headers in the packages that torch depends on, after the toolkit's."""
    folders = sorted(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/include"))
    return [f"-Xcompiler=-idirafter,{folder}" for folder in folders]


def mark() -> str:
    """A source file that says in the library what it was compiled from; see ops/sources.py."""
    path = Path("build/mark.cpp")
    text = runpy.run_path("dynamic_atss/ops/sources.py")["mark"]()
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'extern "C" __attribute__((used)) const char dynamic_atss_mark[] = "{text}";\n'
    )
    return str(path)


def of_kernels(ending: str) -> dict:
    """The sources of a library, and the headers whose change compiles it again."""
    headers = [path for kind in ("h", "cuh") for path in CSRC.glob(f"*.{kind}")]
    sources = sorted(map(str, CSRC.glob(f"*.{ending}")))
    return {"sources": [*sources, mark()], "depends": sorted(map(str, headers))}


def warn(what: str, error: object) -> None:
    text, *values = getattr(error, "args", None) or [""]
    if values and str(text).count("%s") == len(values):  # PyTorch's of two CUDA versions
        error = text.replace("%s", "{}").format(*values)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    print(f"WARNING: {what} ({reason}); plain PyTorch will serve instead", file=sys.stderr)


def cpu_extension(cpp_extension):
    return cpp_extension.CppExtension(
        "dynamic_atss.ops._cpu",
        **of_kernels("cpp"),
        extra_compile_args=["-O3", "-g0", "-std=c++17", *VECTORS, *ABI],
        py_limited_api=True,
    )


def cuda_extension(cpp_extension):
    return cpp_extension.CUDAExtension(
        "dynamic_atss.ops._cuda",
        **of_kernels("cu"),
        extra_compile_args={"cxx": [], "nvcc": ["-O3", "-std=c++17", *ABI, *packaged_headers()]},
        py_limited_api=True,
    )


def wants_cuda(torch, toolkit: str | None) -> bool:
    if not list(CSRC.glob("*.cu")):
        return False
    if torch.version.cuda and toolkit:
        return True
    if FORCE_CUDA:
        missing = "a CUDA toolkit" if torch.version.cuda else "a PyTorch built with CUDA"
        raise SystemExit(f"FORCE_CUDA=1 needs {missing}: set CUDA_HOME or install one")
    return False


def extensions() -> dict:
    """setup()'s arguments for the extensions; none where torch is not installed."""
    toolkit = find_toolkit()
    if toolkit:
        os.environ["CUDA_HOME"] = toolkit  # read when the next line imports
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError as error:
        if FORCE_CUDA:
            raise SystemExit(
                "FORCE_CUDA=1 needs torch: pip install --no-build-isolation ."
            ) from error
        warn("kernels are not compiled", "no torch here; pip install --no-build-isolation compiles")
        return {}
    modules = [cpu_extension(cpp_extension)]
    if wants_cuda(torch, toolkit):
        if not torch.cuda.is_available():
            os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHITECTURES)
        modules.append(cuda_extension(cpp_extension))

    class Build(cpp_extension.BuildExtension):
        """Each extension by itself, so that one that fails does not take the others along."""

        def run(self) -> None:
            wanted, built = self.extensions, []
            compiler, folder = self.compiler, self.build_temp
            for extension in wanted:
                self.extensions, self.compiler = [extension], compiler  # run() replaces its name
                # Of their own, as focal.cpp and focal.cu both become focal.o.
                self.build_temp = os.path.join(folder, extension.name)
                try:
                    super().run()
                    built.append(extension)
                except Exception as error:
                    if FORCE_CUDA and extension.name.endswith("_cuda"):
                        raise
                    warn(f"{extension.name} is not compiled", error)
            self.extensions = built

    return {
        "ext_modules": modules,
        "cmdclass": {"build_ext": Build},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


class Package(build_py):
    """The package with the configurations inside, which a clone has beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            inside = Path(self.build_lib, "dynamic_atss/configs")
            shutil.rmtree(inside, ignore_errors=True)  # of an earlier build
            shutil.copytree("configs", inside)


def arguments() -> dict:
    """Those of setup()."""
    found = extensions()
    return {**found, "cmdclass": {**found.get("cmdclass", {}), "build_py": Package}}


if __name__ == "__main__":
    setup(**arguments())
