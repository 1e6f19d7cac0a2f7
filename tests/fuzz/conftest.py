"""How long the fuzzing takes: short and the same every time, or as long as DYNAMIC_ATSS_FUZZ says.

DYNAMIC_ATSS_FUZZ=<examples>: so many inputs of each test, drawn anew each time.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHORT = 40  # inputs of each test
MEMORY = 600  # MB above those at a test's start: a decoded picture of the largest size, twice
ASKED = os.environ.get("DYNAMIC_ATSS_FUZZ", "")

# Nothing is left in the folder that the tests run in.
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
    """No input takes much memory; looked at where Linux counts the most that there was."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the most is the present, from here on
    except OSError:
        yield
        return
    before = _megabytes("VmRSS")
    yield
    assert _megabytes("VmHWM") - before < MEMORY
