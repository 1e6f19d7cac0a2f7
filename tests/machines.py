"""Runs the numerical tests as other processors would run them, as far as one machine can.

python tests/machines.py [--quick] [--only NAME ...] [PATH ...]

Each setting is a process with environment variables that limit the instructions of the math
libraries and of our kernels. A test that passes only with the rounding of one library fails in one
of them. Exit code 0 if every setting passes, 1 otherwise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__ as NUMPY_VECTORS

ROOT = Path(__file__).resolve().parents[1]

NUMERICAL = (
    "tests/ops",
    "tests/assigners",
    "tests/modeling",
    "tests/evaluation",
    "tests/data",
    "tests/test_boxes.py",
    "tests/test_losses.py",
    "tests/test_types.py",
    "tests/builders/test_model.py",
    "tests/builders/test_rules.py",
    "tests/builders/test_reference_run.py",
    "tests/builders/test_reference_tta.py",
)
OPERATORS = ("tests/ops", "tests/assigners")

# Words in the names of tests that the variables below cannot change: tests of compilers, and of
# kernels that a compiler builds for the test.
SAME_EVERYWHERE = ("on_cpu", "cuda_operators", "test_build", "compiles", "opcheck")
TOO_LONG = ("ignore_regions", "on_cuda", "reference_serves", "test_odd")  # omitted by --quick

SETTINGS: dict[str, dict[str, str]] = {
    "MKL compatible": {"MKL_CBWR": "COMPATIBLE"},
    "MKL AVX2": {"MKL_CBWR": "AVX2"},
    "PyTorch default": {"ATEN_CPU_CAPABILITY": "default"},
    "PyTorch AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "oneDNN SSE4.1": {"DNNL_MAX_CPU_ISA": "SSE41"},
    "oneDNN AVX2": {"DNNL_MAX_CPU_ISA": "AVX2"},
    "NumPy baseline": {"NPY_DISABLE_CPU_FEATURES": " ".join(NUMPY_VECTORS)},
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "3 threads": {"OMP_NUM_THREADS": "3"},
    "kernels of plain x86": {"DYNAMIC_ATSS_CPU_CAPABILITY": "plain"},
    "kernels of AVX2": {"DYNAMIC_ATSS_CPU_CAPABILITY": "avx2"},
    "plain PyTorch": {"DYNAMIC_ATSS_NATIVE": "0"},
    "another math library": {"DYNAMIC_ATSS_TEST_ROUNDING": "1"},
    "another math library, plain PyTorch": {
        "DYNAMIC_ATSS_TEST_ROUNDING": "1",
        "DYNAMIC_ATSS_NATIVE": "0",
    },
}

# Combines the settings in three runs; each value of each variable occurs in one of them.
QUICK: dict[str, Sequence[str]] = {
    "an old processor": (
        "MKL compatible",
        "PyTorch default",
        "oneDNN SSE4.1",
        "NumPy baseline",
        "kernels of plain x86",
        "1 thread",
    ),
    "a processor with AVX2, another math library": (
        "MKL AVX2",
        "PyTorch AVX2",
        "oneDNN AVX2",
        "another math library",
        "kernels of AVX2",
        "3 threads",
    ),
    "no kernels, another math library": ("another math library, plain PyTorch", "1 thread"),
}


@dataclass(frozen=True)
class Result:
    """Holds the result of a setting: its name, the seconds it took and pytest's output."""

    name: str
    seconds: float
    output: str
    passed: bool

    @property
    def closing_line(self) -> str:
        """Gives the last line that pytest printed."""
        lines = self.output.strip().splitlines()
        return lines[-1] if lines else "printed nothing"


def chosen(quick: bool, only: Sequence[str]) -> dict[str, dict[str, str]]:
    """Gives the variables of each setting to run, by its name."""
    table = SETTINGS
    if quick:
        table = {
            name: {key: value for part in parts for key, value in SETTINGS[part].items()}
            for name, parts in QUICK.items()
        }
    unknown = [name for name in only if name not in table]
    if unknown:
        sys.exit(f"error: --only {unknown[0]}: the settings are {', '.join(table)}")
    return {name: table[name] for name in only or table}


def run(
    name: str, variables: dict[str, str], paths: Sequence[str], omitted: Sequence[str]
) -> Result:
    """Runs the tests of `paths` in a setting, without tests whose names contain an omitted word."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *paths]
    command += ["-k", " and ".join(f"not {word}" for word in omitted), "-m", "not cuda"]
    # The settings share the cores: each has one thread, and threads wait without spinning.
    shared = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    environment = {**shared, **os.environ, **variables}
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - start
    return Result(name, seconds, done.stderr + done.stdout, done.returncode == 0)


def run_all(
    settings: dict[str, dict[str, str]], paths: Sequence[str], omitted: Sequence[str], jobs: int
) -> Iterator[Result]:
    """Runs the settings, `jobs` of them at a time, and yields results in the order of the table."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda item: run(*item, paths, omitted), settings.items())


def report(result: Result, variables: dict[str, str]) -> None:
    """Prints a line for a setting, and pytest's output if a test failed."""
    texts = [
        f"{key}={value!r}" if " " in value else f"{key}={value}" for key, value in variables.items()
    ]
    print(f"{result.name} ({' '.join(texts)}): {result.closing_line}", flush=True)
    if not result.passed:
        print(result.output, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="tests to run")
    parser.add_argument("--quick", action="store_true", help="operators and rules, in three runs")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="settings to run")
    parser.add_argument("--jobs", type=int, default=3, help="settings that run at a time")
    args = parser.parse_args()
    settings = chosen(args.quick, args.only)
    paths = args.paths or (OPERATORS if args.quick else NUMERICAL)
    omitted = SAME_EVERYWHERE + (TOO_LONG if args.quick else ())
    failed = 0
    for result in run_all(settings, paths, omitted, args.jobs):
        report(result, settings[result.name])
        failed += not result.passed
    print(f"{len(settings) - failed} of {len(settings)} settings passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
