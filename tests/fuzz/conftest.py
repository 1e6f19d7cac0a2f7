"""Sets the number of fuzzed inputs: few and always the same ones, unless DYNAMIC_ATSS_FUZZ is set.

DYNAMIC_ATSS_FUZZ=<examples> draws so many new inputs of each test.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHORT = 40  # inputs of each test
MEMORY = 600  # MB that a test may add: twice a decoded picture of the largest size
ASKED = os.environ.get("DYNAMIC_ATSS_FUZZ", "")

# Keeps the working directory of the tests clean.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.mkdtemp(prefix="hypothesis_"))
settings.register_profile(
    "fuzz",
    max_examples=int(ASKED or SHORT),
    derandomize=not ASKED,
    database=None,
    deadline=None,  # the machine may be busy
    print_blob=bool(ASKED),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")


def _megabytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) >> 10


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Checks that no input takes much memory, if Linux counts the peak."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    except OSError:
        yield
        return
    before = _megabytes("VmRSS")
    yield
    assert _megabytes("VmHWM") - before < MEMORY
