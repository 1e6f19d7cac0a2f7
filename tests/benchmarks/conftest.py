"""Lets the tests import the benchmark scripts."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Lets the scripts import each other by plain names, as when they are started."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("on_gpu") or (FOLDER / f"{name}.py").is_file():
            del sys.modules[name]
