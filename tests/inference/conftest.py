"""Trains a tiny run once for all tests of inference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_run import call_tool, write_config

# After six iterations all scores are low, so the tests count every score.
OWN = ["MODEL.ATSS.INFERENCE_TH", 0.001, "TEST.IMS_PER_BATCH", 1, "SOLVER.EMA_DECAY", 0.5]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a folder with generated pictures (`datasets/shapes`) and a trained run (`run`)."""
    folder = tmp_path_factory.mktemp("tiny")
    args = [*write_config(folder), *OWN, "OUTPUT_DIR", folder / "run"]
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, "train_net", args) == 0
    return folder


@pytest.fixture(scope="session")
def run(tiny: Path) -> Path:
    return tiny / "run"


@pytest.fixture(scope="session")
def pictures(tiny: Path) -> Path:
    """Gives the folder of the 8 test pictures."""
    return tiny / "datasets/shapes/val"


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    """Makes a folder with four of the test pictures."""
    copied = tmp_path / "pictures"
    copied.mkdir()
    for file in sorted(pictures.glob("*.jpg"))[:4]:
        shutil.copy(file, copied)
    return copied


@pytest.fixture
def predict(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Calls the command; returns its exit code, stdout and stderr."""

    def call(*args: object, weights: object = run, threshold: float = 0) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        given = ["--weights", weights, "--threshold", threshold, *args]
        code = call_tool(monkeypatch, "predict", given)
        out, err = capfd.readouterr()
        return code, out, err

    return call
