"""Checks the packages of the machine's Python, without downloads."""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from dynamic_atss.errors import UserError

# Module -> package. The check needs no scorers, TensorBoard or matplotlib.
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "yaml": "pyyaml",
    "yacs": "yacs",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "tqdm": "tqdm",
    "pytest": "pytest",
    "setuptools": "setuptools",
}
OF_THE_MACHINE = ("torch", "torchvision")
OPTIONAL = ("ninja",)  # compiles the files of the kernels in parallel
LEAST = {"setuptools": 77}  # older ones do not read our pyproject.toml
OLDEST = (2, 10)
LOOK = """
import importlib, json, sys
missing, broken = [], {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing.append((error.name or name).split(".")[0])
    except Exception as error:
        broken[name] = f"{type(error).__name__}: {error}"
found = {"missing": missing, "broken": broken, "versions": {}}
if "setuptools" in sys.modules:
    found["versions"]["setuptools"] = sys.modules["setuptools"].__version__
if "torch" in sys.modules:
    import torch
    found |= {"torch": torch.__version__, "gpus": torch.cuda.device_count()}
print(json.dumps(found))
"""


def install_wheels(folder: Path, target: Path) -> list[str]:
    """Installs the wheels of missing packages into `target`; returns their names.

    Installed packages, such as PyTorch, are never replaced. If a package is too old, the newer one
    goes into `target`, which comes first on the path.

    Raises:
        UserError: there are no wheels, or pip cannot install them.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise UserError(f"--wheels {folder}: no *.whl in it; {how_to_download([])}")
    names = sorted({_plain(wheel.name.split("-")[0]) for wheel in wheels} - _present())
    if names:
        _install(names, folder, target)
    return names


def _present() -> set[str]:
    """Returns the installed packages that are new enough."""
    found: dict[str, str] = {}
    for one in metadata.distributions():  # Python imports the first of a name
        if one.name:
            found.setdefault(_plain(one.name), one.version)
    return {name for name, version in found.items() if not _too_old(name, version)}


def _too_old(name: str, version: str) -> bool:
    return int((re.findall(r"\d+", version or "") or ["0"])[0]) < LEAST.get(name, 0)


def _install(names: list[str], folder: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--no-index", "--find-links", str(folder.resolve()), "--no-deps", "--upgrade"]
    command += ["--no-cache-dir", "--target", str(target), *names]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or done.stderr.splitlines() or ["pip failed"])[0]
        raise UserError(f"--wheels {folder}: {reason.removeprefix('ERROR: ')}")


def check(environment: Mapping[str, str], device: str) -> int:
    """Checks packages and GPUs; returns the number of GPUs.

    Raises:
        UserError: packages or the GPU are missing. One line names all packages.
    """
    command = [sys.executable, "-W", "ignore", "-c", LOOK, *NEEDED]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(environment))
    if done.returncode:
        raise UserError(f"{sys.executable} cannot look for packages: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    old = {name for name, version in found["versions"].items() if _too_old(name, version)}
    missing = sorted({NEEDED.get(name, name) for name in found["missing"]} | old)
    unavailable = [name for name in OF_THE_MACHINE if name in missing]
    if unavailable:
        raise UserError(
            f"{sys.executable} has no {' and no '.join(unavailable)}: name a Python that has "
            "PyTorch with CUDA (make gpu PYTHON=...)"
        )
    if missing:
        named = ", ".join(map(_wanted, missing))
        raise UserError(f"packages are missing: {named}; {how_to_download(missing)}")
    for name, reason in found["broken"].items():
        raise UserError(f"package {NEEDED[name]} does not import ({reason})")
    _check_torch(found["torch"], found["gpus"], device)
    return int(found["gpus"])


def _check_torch(version: str, gpus: int, device: str) -> None:
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise UserError(f"PyTorch {version} is too old: 2.10 or newer is needed")
    if device == "cuda" and not gpus:
        raise UserError(
            f"PyTorch {version} finds no GPU here; a dry run on the CPU: --device cpu "
            '(make gpu GPU_ARGS="--device cpu")'
        )


def how_to_download(names: list[str]) -> str:
    """Returns the download command for a machine with a network and this machine's Python."""
    version = ".".join(map(str, sys.version_info[:2]))
    ages = ("_2_28", "_2_27", "_2_17", "2014")
    systems = " ".join(f"--platform manylinux{age}_{platform.machine()}" for age in ages)
    names = names or [n for n in NEEDED.values() if n not in OF_THE_MACHINE]
    names = [*names, *(name for name in OPTIONAL if not shutil.which(name))]
    wanted = " ".join(shlex.quote(_wanted(name)) for name in names)
    return (
        "on a machine with a network: pip download --only-binary=:all: "
        f"--python-version {version} {systems} -d wheels {wanted}; then here: "
        "make gpu WHEELS=wheels"
    )


def _wanted(name: str) -> str:
    return f"{name}>={LEAST[name]}" if name in LEAST else name


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
