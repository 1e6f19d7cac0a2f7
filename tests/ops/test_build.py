"""Tests the build of the kernels: what it finds, and whether this installation is complete."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from dynamic_atss.ops import library, sources

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("project_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def only(monkeypatch, tmp_path):
    """Sets a PATH with one folder, and no variables that name a toolkit."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write_program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_nvcc_itself_names_the_toolkit(build, only, tmp_path_factory):
    """The nvcc on the PATH is a wrapper outside of the toolkit."""
    toolkit = tmp_path_factory.mktemp("cuda")
    (toolkit / "bin").mkdir()
    write_program(
        toolkit / "bin/nvcc", f'echo "#$ _SPACE_= " >&2; echo "#$ TOP={toolkit}/bin/.." >&2'
    )
    write_program(only / "nvcc", f'exec {toolkit}/bin/nvcc "$@"')
    assert build.find_toolkit() == str(toolkit)


def test_a_variable_goes_before_the_path(build, only, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/somewhere")
    assert build.find_toolkit() == "/somewhere"


def test_an_nvcc_that_says_nothing(build, only):
    write_program(only / "nvcc", "exit 1")
    assert build.find_toolkit() is None


def test_cuda_is_wanted_where_it_can_be_built(build, monkeypatch):
    monkeypatch.chdir(ROOT)
    with_cuda = type("torch", (), {"version": type("version", (), {"cuda": "13.0"})})
    without = type("torch", (), {"version": type("version", (), {"cuda": None})})
    assert build.wants_cuda(with_cuda, "/toolkit")
    assert not build.wants_cuda(with_cuda, None)
    assert not build.wants_cuda(without, "/toolkit")


def test_force_cuda_says_what_is_missing(build, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(build, "FORCE_CUDA", True)
    with_cuda = type("torch", (), {"version": type("version", (), {"cuda": "13.0"})})
    without = type("torch", (), {"version": type("version", (), {"cuda": None})})
    with pytest.raises(SystemExit, match="a CUDA toolkit"):
        build.wants_cuda(with_cuda, None)
    with pytest.raises(SystemExit, match="a PyTorch built with CUDA"):
        build.wants_cuda(without, "/toolkit")


def installed(device):
    if os.environ.get("DYNAMIC_ATSS_NATIVE") == "0":
        pytest.skip("kernels are switched off")
    [path] = library.FOLDER.glob(f"_{device}.*")
    return path


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
def test_the_cpu_kernels_are_compiled_and_load_here():
    assert installed("cpu").suffixes[0] == ".abi3"
    assert library.load()["cpu"] == "native"


def toolkit():
    """Gives the toolkit's CUDA version, "" without a toolkit."""
    if shutil.which("nvcc") is None:
        return ""
    text = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+\.\d+)", text)
    return found[1] if found else ""


@pytest.mark.skipif(
    not torch.version.cuda or toolkit().split(".")[0] != torch.version.cuda.split(".")[0],
    reason=f"the CUDA of PyTorch is {torch.version.cuda}, of nvcc {toolkit() or None}",
)
def test_the_cuda_kernels_are_compiled_and_load_without_a_gpu():
    architectures = set(re.findall(rb"-arch (sm_\d+)", installed("cuda").read_bytes()))
    assert architectures
    if not torch.cuda.is_available() and "TORCH_CUDA_ARCH_LIST" not in os.environ:
        assert architectures == {b"sm_80", b"sm_90"}
    assert library.load()["cuda"] == "native"


@pytest.mark.parametrize(
    "content, reason", [(sources.mark(), "does not load"), (sources.MARK, "other sources")]
)
def test_a_library_that_will_not_do_is_one_warning(monkeypatch, tmp_path, content, reason):
    (tmp_path / "_cpu.abi3.so").write_text(content)
    monkeypatch.delenv("DYNAMIC_ATSS_NATIVE", raising=False)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    with pytest.warns(UserWarning, match="build it again"):
        assert reason in library._load("cpu")


def test_the_mark_follows_every_change_of_the_sources(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    marks = [sources.mark()]
    for name, text in (("a.cpp", "x"), ("a.cpp", "y"), ("b.h", "")):
        (tmp_path / name).write_text(text)
        marks.append(sources.mark())
    assert len(set(marks)) == 4


def test_what_an_editor_leaves_among_the_sources_changes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "FOLDER", tmp_path)
    (tmp_path / "a.cpp").touch()
    before = sources.mark()
    (tmp_path / ".a.cpp.swp").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "a.cpp~").touch()
    assert sources.mark() == before


def test_one_means_the_usual_kernels(monkeypatch, tmp_path):
    states = []
    for value in ("", "1", "0"):
        monkeypatch.setenv("DYNAMIC_ATSS_NATIVE", value)
        states.append(library._load("cpu"))
    assert states[0] == states[1] != states[2]


def test_a_folder_without_kernels_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DYNAMIC_ATSS_NATIVE", str(tmp_path))
    assert library._load("cpu") == f"none in DYNAMIC_ATSS_NATIVE={tmp_path}"


def test_the_log_says_what_serves():
    assert library.serving("mps").startswith("plain PyTorch")
