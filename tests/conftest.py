"""Fixtures for every test."""

from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m cuda` picks the tests of the GPU; where there is none they say so."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference and real data beside the checkout; without it the test is skipped."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data: {folder} is not there")
    return folder
