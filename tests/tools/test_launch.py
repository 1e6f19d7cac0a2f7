"""Tests the help of tools/launch.py. tests/test_distributed.py starts runs with it."""

import subprocess
import sys

import pytest
from helpers_run import ROOT

LAUNCH = [sys.executable, str(ROOT / "tools/launch.py")]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], []])
def test_the_help_explains_the_tool_before_the_options_of_torchrun(arguments):
    done = subprocess.run([*LAUNCH, *arguments], capture_output=True, text=True)
    first, example, *_ = done.stdout.splitlines()
    assert "torchrun" in first and "python tools/launch.py --nproc" in example
    options = (done.stdout + done.stderr).replace(example, "").replace("_", "-")
    assert "--nproc-per-node" in options


@pytest.mark.slow
def test_help_after_a_tool_is_that_of_the_tool():
    done = subprocess.run(
        [*LAUNCH, "--standalone", str(ROOT / "tools/train_net.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "--nproc-per-node 8 train" not in done.stdout
    assert "--config-file" in done.stdout
