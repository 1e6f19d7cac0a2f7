"""Tests the work that every tool does before it starts."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from helpers_run import ROOT, load_module

from dynamic_atss import cli
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError

PROGRAM = """
import os, sys
from dynamic_atss import cli
cli.run(lambda: print("torch" in sys.modules, os.environ["THP_MEM_ALLOC_ENABLE"]))
"""


@pytest.mark.parametrize("given, kept", [(None, "1"), ("0", "0")])
def test_huge_pages_are_requested_before_torch_is_imported(given, kept):
    others = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    env = others if given is None else {**others, "THP_MEM_ALLOC_ENABLE": given}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True)
    assert done.stdout == f"False {kept}\n" and done.returncode == 0, done.stderr


def test_a_mistake_is_one_line_and_exit_code_2(capsys):
    """This holds even if the message contains an error of several lines."""

    def main():
        raise UserError("file.py: it fails (one\n  two\n\n three)")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: file.py: ") and "one two three" in line


TOOL = """
import sys
from dynamic_atss import cli
from dynamic_atss.engine.logger import setup_logging

def main():
    setup_logging({log!r})
    sys.path.append({folder!r})
    {call}

cli.run(main)
"""


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("in_user_code", [True, False])
def test_an_error_in_the_users_code_is_one_line(in_user_code, log, tmp_path):
    """The traceback goes to log.txt. It is shown if there is no log, or for code of the tool."""
    code = tmp_path / "mine.py"
    code.write_text("def rule():\n    raise KeyError('boo')\n")
    run = str(tmp_path / "run")
    call = "import mine; mine.rule()" if in_user_code else "raise KeyError('boo')"
    tool = tmp_path / "tool.py"
    tool.write_text(TOOL.format(log=run if log else None, folder=str(tmp_path), call=call))
    done = subprocess.run([sys.executable, tool], capture_output=True, text=True)
    if not (in_user_code and log):
        assert done.returncode == 1 and "Traceback" in done.stderr
        return
    assert done.returncode == 2 and not done.stdout and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {code}:2: ")
    assert "KeyError: 'boo'" in done.stderr and f"{run}/log.txt" in done.stderr
    assert "Traceback" in (tmp_path / "run/log.txt").read_text()


@pytest.mark.parametrize(
    ("tool", "key"),
    [
        ("train_net", r"SOLVER.MAX_ITER +iterations of the training \[40000\]"),
        ("test_net", r"TEST.DETECTIONS_PER_IMG +keeps and scores"),
    ],
)
def test_help_has_examples_that_can_be_typed_and_the_keys(tool, key, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    module = load_module(f"tools/{tool}.py")
    monkeypatch.setattr(sys, "argv", [f"tools/{tool}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    out = capsys.readouterr().out
    assert ended.value.code == 0 and max(map(len, out.splitlines())) <= 105
    files = re.findall(r"--config-file (configs/(?!X)\S+)", out)
    assert all((ROOT / file).is_file() for file in files)
    commands = re.findall(rf"tools/{tool}.py (.*)", out.replace("\\\n", " "))
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command)
        pairs = [w for w in words[2:] if not w.startswith("--")]
        load_config(None, pairs)  # raises for an unknown key
    assert re.search(key, out)
