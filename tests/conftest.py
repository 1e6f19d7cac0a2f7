"""Fixtures for every test."""

import os
from pathlib import Path

import other_rounding
import pytest

ROUNDING = os.environ.get("DYNAMIC_ATSS_TEST_ROUNDING", "0") == "1"


def pytest_configure() -> None:
    if ROUNDING:
        other_rounding.install()


def pytest_report_header() -> str | None:
    return "PyTorch's functions are off by one unit (tests/other_rounding.py)" if ROUNDING else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference and real data beside the checkout; without it the test is skipped."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data: {folder} is not there")
    return folder
