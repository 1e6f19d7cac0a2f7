"""What every tool does before its own work."""

import os
import subprocess
import sys

import pytest

from dynamic_atss import cli
from dynamic_atss.errors import UserError

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


def test_a_mistake_is_one_line_and_exit_code_2(capsys):
    """Also where the message quotes an error of several lines."""

    def main():
        raise UserError("file.py: it fails (one\n  two\n\n three)")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: file.py: it fails (one two three)\n"
