"""Tests that a program started by helpers_fork.py behaves as if Python had started it."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from helpers_fork import Program
from helpers_run import environment, run_program

PRINTS = """
import atexit, os, signal, sys
atexit.register(print, "the end")
print(__name__, sys.argv, sys.orig_argv[1:], sys.path[0], os.getcwd(), os.environ["MINE"])
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.stdin.read())
print("warned", file=sys.stderr)
"""
ENDS = {"returns": "", "exits": "sys.exit(3)", "says why": "sys.exit('no')", "fails": "1 / 0"}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("module", [False, True], ids=["file", "module"])
def test_a_fork_behaves_as_a_started_program(tmp_path, end, module):
    (tmp_path / "prints.py").write_text(PRINTS + ENDS[end])
    words = ["-m", "prints", "a b"] if module else [str(tmp_path / "prints.py"), "a b", "--c"]
    real = subprocess.run(
        [sys.executable, *words],
        env={**environment(), "MINE": "yes"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    fork = run_program(words, cwd=tmp_path, MINE="yes")
    assert fork.returncode == real.returncode
    assert fork.stdout == real.stdout and fork.stdout.endswith("the end\n")
    assert fork.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_exit_code_names_the_signal(tmp_path, number):
    (tmp_path / "waits.py").write_text("import time\ntime.sleep(60)")
    with tempfile.TemporaryFile() as file:
        words = [str(tmp_path / "waits.py")]
        process = Program(words, environment(), file, file, tmp_path, start_new_session=True)
        assert process.poll() is None
        while os.getpgid(process.pid) != process.pid:
            time.sleep(0.01)
        os.killpg(process.pid, number)
        assert process.wait(timeout=60) == -number == process.poll()


def test_two_programs_draw_different_numbers(tmp_path):
    """Otherwise two runs could agree only because they share a seed."""
    code = "import random, numpy\nprint(random.random(), numpy.random.rand())"
    (tmp_path / "draws.py").write_text(code)
    first, second = (run_program([str(tmp_path / "draws.py")]).stdout.split() for _ in range(2))
    assert len({*first, *second}) == 4
