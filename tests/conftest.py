"""Provides fixtures and hooks for all tests."""

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import other_rounding
import pytest
import torch

from dynamic_atss.engine.logger import close_logging

# Complete programs are in the first two folders.
LONGEST_FIRST = {"tests": 0, "tools": 1, "export": 2, "builders": 3, "inspection": 4}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the folders first that take longest, and skips GPU tests without a GPU.

    So no process is left with a long file at the end. `-m cuda` selects the tests that need a GPU.
    """
    items.sort(key=lambda item: LONGEST_FIRST.get(item.path.parent.name, len(LONGEST_FIRST)))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Makes `-n auto` use one more worker than cores.

    Many tests wait for their processes, so the cores would not all be busy otherwise.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # pytest-xdist reads it
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escapes printed characters that UTF-8 cannot encode: pytest-xdist sends only UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


ROUNDING = os.environ.get("DYNAMIC_ATSS_TEST_ROUNDING", "0") == "1"


def pytest_configure() -> None:
    # A suite that a shell starts in the background inherits an ignored SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The tests use another cache folder (headers of images, downloads) than the user's.
    os.environ["DYNAMIC_ATSS_CACHE"] = tempfile.mkdtemp(prefix="dynamic_atss_tests_")
    if ROUNDING:
        other_rounding.install()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["DYNAMIC_ATSS_CACHE"], ignore_errors=True)


def pytest_report_header() -> str | None:
    return "PyTorch's functions are off by one unit (tests/other_rounding.py)" if ROUNDING else None


@pytest.fixture(autouse=True)
def _closed_log() -> Iterator[None]:
    """Closes the log of a test's run: the next test must not write to a folder that is deleted."""
    yield
    close_logging()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Gives the folder of reference and real data next to the checkout, or skips the test."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no reference data: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Gives the folder of reference arrays and names that is part of the repository."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session", params=["golden", "complete"])
def golden_or_complete(request: pytest.FixtureRequest) -> Path:
    """Gives the repository's part of the reference, and the complete reference next to it."""
    if request.param == "golden":
        return request.getfixturevalue("golden")
    return request.getfixturevalue("shared") / "reference"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Uses one thread, because the bits of results depend on the number of threads."""
    previous = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(previous)
