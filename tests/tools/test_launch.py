"""What tools/launch.py says of itself; tests/test_distributed.py starts runs with it."""

import subprocess
import sys

import pytest
from helpers_run import ROOT

LAUNCH = [sys.executable, str(ROOT / "tools/launch.py")]


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_the_help_says_what_it_is_before_the_options_of_torchrun(arguments):
    done = subprocess.run([*LAUNCH, *arguments], capture_output=True, text=True)
    first, example, *_ = done.stdout.splitlines()
    assert "torchrun" in first and "python tools/launch.py --nproc" in example
    options = (done.stdout + done.stderr).replace(example, "").replace("_", "-")
    assert "--nproc-per-node" in options


def test_the_help_of_a_tool_is_its_own():
    done = subprocess.run(
        [*LAUNCH, "--standalone", str(ROOT / "tools/train_net.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "This is torchrun" not in done.stdout
    assert "--config-file" in done.stdout
