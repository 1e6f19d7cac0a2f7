"""What every tool does before its own work."""

import os
import subprocess
import sys

import pytest

TOLD = """
import os, sys
from dynamic_atss import cli
cli.run(lambda: print("torch" in sys.modules, os.environ["THP_MEM_ALLOC_ENABLE"]))
"""


@pytest.mark.parametrize("given, kept", [(None, "1"), ("0", "0")])
def test_huge_pages_are_asked_for_before_torch_is_there(given, kept):
    others = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    env = others if given is None else {**others, "THP_MEM_ALLOC_ENABLE": given}
    done = subprocess.run([sys.executable, "-c", TOLD], env=env, capture_output=True, text=True)
    assert done.stdout == f"False {kept}\n" and done.returncode == 0, done.stderr
