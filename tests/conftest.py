"""Fixtures for every test."""

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import other_rounding
import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of whole programs, which take longest, begin; `-m cuda` picks the tests of the GPU;
    where there is none they say so."""
    folder = Path(__file__).parent
    items.sort(key=lambda item: item.path.parent not in (folder, folder / "tools"))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Of `-n auto`: one more than cores, for many tests wait for a process that they started."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # pytest-xdist reads it
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed may have names that no encoding has; pytest-xdist sends UTF-8 alone."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


ROUNDING = os.environ.get("DYNAMIC_ATSS_TEST_ROUNDING", "0") == "1"


def pytest_configure() -> None:
    # What is kept from one run to the next (headers of images, downloads) is the tests' own.
    os.environ["DYNAMIC_ATSS_CACHE"] = tempfile.mkdtemp(prefix="dynamic_atss_tests_")
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


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference arrays and names that is part of the repository."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session", params=["golden", "whole"])
def golden_or_whole(request: pytest.FixtureRequest) -> Path:
    """That folder, and the whole reference beside the checkout: for what the first has in part."""
    if request.param == "golden":
        return request.getfixturevalue("golden")
    return request.getfixturevalue("shared") / "reference"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For runs in this process whose bits are compared: they depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
