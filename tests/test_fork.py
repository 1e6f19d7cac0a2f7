"""A program that helpers_fork.py starts has what it would have if Python started it."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from helpers_fork import Program
from helpers_run import environment, run_program

TELLS = """
import atexit, os, signal, sys
atexit.register(print, "the end")
print(__name__, sys.argv, sys.orig_argv[1:], sys.path[0], os.getcwd(), os.environ["MINE"])
print(signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.stdin.read())
print("warned", file=sys.stderr)
"""
ENDS = {"returns": "", "exits": "sys.exit(3)", "says why": "sys.exit('no')", "fails": "1 / 0"}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("module", [False, True], ids=["file", "module"])
def test_it_is_as_python_starts_it(tmp_path, end, module):
    (tmp_path / "tells.py").write_text(TELLS + ENDS[end])
    words = ["-m", "tells", "a b"] if module else [str(tmp_path / "tells.py"), "a b", "--c"]
    real = subprocess.run(
        [sys.executable, *words],
        **{"env": {**environment(), "MINE": "yes"}, "cwd": tmp_path, "stdin": subprocess.DEVNULL},
        capture_output=True,
        text=True,
    )
    fork = run_program(words, cwd=tmp_path, MINE="yes")
    assert fork.returncode == real.returncode
    assert fork.stdout == real.stdout and fork.stdout.endswith("the end\n")
    assert fork.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_that_ends_it_is_told(tmp_path, number):
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
    """Else two runs would agree that would not if each were started by itself."""
    code = "import random, numpy\nprint(random.random(), numpy.random.rand())"
    (tmp_path / "draws.py").write_text(code)
    told = [run_program([str(tmp_path / "draws.py")]).stdout.split() for _ in range(2)]
    assert len({*told[0], *told[1]}) == 4
