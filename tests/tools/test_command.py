"""Tests the program `dynamic-atss`, and that the files of tools/ call the same commands."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_run import ROOT, load_module

import dynamic_atss
from dynamic_atss import commands
from dynamic_atss.commands import launch
from dynamic_atss.errors import UserError
from dynamic_atss.run import stop_message

TOOLS = {
    "train_net": "train",
    "test_net": "test",
    "predict": "predict",
    "inspect_assignment": "inspect",
    "compare": "compare",
    "check_dataset": "check",
    "show_data": "show",
    "convert_checkpoint": "convert",
    "launch": "launch",
}


def called(monkeypatch, *words):
    """Calls `dynamic-atss <words>` in this process, and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["/bin/dynamic-atss", *words])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    return ended.value.code


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_has_a_line_for_each_command(monkeypatch, capsys, words):
    assert called(monkeypatch, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: dynamic-atss COMMAND")
    for name, text in commands.COMMANDS.items():
        [line] = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.split(maxsplit=1)[1] == text


def test_version(monkeypatch, capsys):
    assert called(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"dynamic-atss {dynamic_atss.__version__}\n"


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("trian", "the nearest is train"),
        ("Convert", "the nearest is convert"),
        ("--config-file", f"give one of {', '.join(commands.COMMANDS)}"),
    ],
)
def test_an_unknown_command_is_one_line(monkeypatch, capsys, word, advice):
    assert called(monkeypatch, word, "--help") == 2
    line = f"error: command line: {word}: no command of dynamic-atss; {advice}\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_each_command_has_its_help(monkeypatch, capsys, name):
    assert called(monkeypatch, name, "--help") == 0
    assert f"usage: dynamic-atss {name} " in capsys.readouterr().out


def test_each_module_is_in_the_table():
    modules = {path.stem for path in Path(commands.__file__).parent.glob("*.py")}
    assert modules - {"__init__"} == {*commands.COMMANDS}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_is_a_few_lines_that_call_the_command(tool):
    module = importlib.import_module(f"dynamic_atss.commands.{TOOLS[tool]}")
    assert load_module(f"tools/{tool}.py").main is module.main
    text = (ROOT / f"tools/{tool}.py").read_text()
    assert len(text.rpartition('"""')[2].split("\n")) < 10
    assert f"dynamic-atss {TOOLS[tool]}`" in text and f"tools/{tool}.py " in text


def test_the_help_of_a_tool_names_the_tool(monkeypatch, capsys):
    """Its examples call the tool, not the command."""
    assert called(monkeypatch, "train", "--help") == 0
    of_command = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["tools/train_net.py", "--help"])
    with pytest.raises(SystemExit):
        load_module("tools/train_net.py").main()
    of_tool = capsys.readouterr().out
    for line in ("dynamic-atss train --config-file ", "8 -m dynamic_atss train --config"):
        assert line in of_command and line not in of_tool
    for line in ("python tools/train_net.py --config-file ", "8 tools/train_net.py --config"):
        assert line in of_tool and line not in of_command


def test_a_mistake_is_reported_without_importing_torch():
    """This holds for python -m, too."""
    code = (
        "import runpy, sys; sys.argv[1:] = ['train', '--config-file', 'nowhere.yaml']\n"
        "try: runpy.run_module('dynamic_atss', run_name='__main__', alter_sys=True)\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "False\n"
    assert done.stderr.startswith("error: --config-file nowhere.yaml: No such file")


def test_a_launcher_takes_a_command_in_place_of_a_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()  # a folder is no program
    options = ["--nproc-per-node", "2", "--rdzv-id", "train"]
    command = ["train", "--config-file", "test", "SEED", "1"]
    assert launch.with_module([*options, *command]) == [*options, "-m", "dynamic_atss", *command]
    (tmp_path / "train.py").touch()
    for kept in (["train.py", "SEED", "1"], ["-m", "train", "1"], ["--no-python", "train", "1"]):
        assert launch.with_module([*options, *kept]) == [*options, *kept]
    with pytest.raises(UserError, match="trian: no such file; the nearest is train"):
        launch.with_module([*options, "trian"])


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["PYTHON", "BIN/dynamic-atss", "train"], "dynamic-atss train --resume"),
        (["PYTHON", "OTHER/dynamic-atss", "train"], "OTHER/dynamic-atss train --resume"),
        (["PYTHON", "BIN/torchrun", "x.py"], "torchrun x.py --resume"),
        (["PYTHON", "tools/train_net.py", "--resume"], "PYTHON tools/train_net.py --resume"),
        (["PYTHON", "-m", "dynamic_atss", "train"], "PYTHON -m dynamic_atss train --resume"),
    ],
)
def test_the_command_to_resume_is_as_typed(monkeypatch, tmp_path, words, typed):
    """A shell runs a script that it finds by name as `python /the/folder/name`."""
    for folder in ("bin", "other"):
        (tmp_path / folder).mkdir()
        for name in ("dynamic-atss", "torchrun"):
            (tmp_path / folder / name).touch(mode=0o755)
    places = {"BIN": str(tmp_path / "bin"), "OTHER": str(tmp_path / "other")}
    monkeypatch.setenv("PATH", places["BIN"])
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    started = [word.replace("BIN", places["BIN"]) for word in words]
    started = [word.replace("OTHER", places["OTHER"]) for word in started]
    monkeypatch.setattr(sys, "orig_argv", started)
    assert stop_message.command() == typed.replace("OTHER", places["OTHER"])
