"""Checks a command without running it: its program reads the arguments and stops.

The model of a command that trains or tests is built, without numbers. So its configuration, its
overrides and the code that they name work together.
"""

from __future__ import annotations

import argparse
import re
import runpy
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers_docs import ROOT
from torch.distributed import run as torchrun

from dynamic_atss.builders import build_model
from dynamic_atss.builders.values import check_values
from dynamic_atss.commands import COMMANDS
from dynamic_atss.comparison.arguments import split_at_key
from dynamic_atss.config.load import load_config

SHELL = (".", "cd", "git", "pre-commit", "sbatch", "tensorboard", "wandb")  # nothing of ours


class Parsed(BaseException):
    """Ends a program that has read its arguments, and holds them.

    No handler of errors catches it.
    """


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a command of the pages would not start."""
    program, *rest = words
    if program in SHELL:
        return
    assert program in CHECKS, f"{program}: not known: mark the block with its reason to be skipped"
    CHECKS[program](rest, monkeypatch)


def _dynamic_atss(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, *rest = words
    assert name in COMMANDS, name
    if name == "launch":
        return _torchrun(rest, monkeypatch)
    module = import_module(f"dynamic_atss.commands.{name}")
    _read(module.main, [f"dynamic-atss {name}", *rest], monkeypatch)


def _python(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if words[0] == "-m":
        module, *rest = words[1:]
        return CHECKS[{"torch.distributed.launch": "torchrun"}.get(module, module)](
            rest, monkeypatch
        )
    file = ROOT / words[0]
    assert file.is_file(), words[0]
    if words[0] == "tools/launch.py":
        return _torchrun(words[1:], monkeypatch)
    if file.parent.name in ("tools", "benchmarks", "tests"):
        monkeypatch.syspath_prepend(file.parent)
        _read(lambda: runpy.run_path(str(file), run_name="__main__"), words, monkeypatch)


def _torchrun(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    args = torchrun.get_args_parser().parse_args(words)
    script, rest = args.training_script, args.training_script_args
    if script in COMMANDS:
        return _dynamic_atss([script, *rest], monkeypatch)
    if script == "dynamic_atss":
        return _dynamic_atss(rest, monkeypatch)
    _python([script, *rest], monkeypatch)


def _read(program: Callable[[], object], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("parse_args", "parse_intermixed_args"):
        read = getattr(argparse.ArgumentParser, name)

        def stop(self, *given, _read=read, **named):
            raise Parsed(_read(self, *given, **named))

        monkeypatch.setattr(argparse.ArgumentParser, name, stop)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Parsed) as parsed:
        program()
    monkeypatch.undo()
    _check_keys(parsed.value.args[0])


def _check_keys(args: argparse.Namespace) -> None:
    """Checks that the configuration file exists, and that keys and their values are valid."""
    pairs = [*getattr(args, "set", []), *getattr(args, "opts", [])]
    for name in ("rules", "seeds", "devices"):  # lists of words in front of KEY VALUE
        pairs = [*split_at_key(getattr(args, name, []))[1], *pairs]
    if not all(word[0].isupper() for word in pairs[::2]):
        return  # folders of runs
    file = getattr(args, "config_file", "") or ""
    saved = file.startswith("output/")  # by a run that the page does not do
    cfg = load_config(None if saved else file, pairs, allow_code=True)
    if file and not saved and hasattr(args, "opts"):
        check_values(cfg)
        with torch.device("meta"):
            build_model(cfg, 80)


def _make(words: list[str], _: pytest.MonkeyPatch) -> None:
    text = (ROOT / "Makefile").read_text()
    for target in (word for word in words if "=" not in word):
        assert re.search(rf"^{re.escape(target)}:", text, re.MULTILINE), f"make {target}"


def _pip(words: list[str], _: pytest.MonkeyPatch) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"(?:\.|dynamic_atss)\[([\w,]+)\]", " ".join(words)):
        assert all(f"\n{name} = [" in text for name in extra.split(",")), extra


def _pytest(words: list[str], _: pytest.MonkeyPatch) -> None:
    for word in words:
        assert "/" not in word or Path(ROOT / word.split("::")[0]).exists(), word


CHECKS: dict[str, Callable[[list[str], pytest.MonkeyPatch], None]] = {
    "dynamic-atss": _dynamic_atss,
    "dynamic_atss": _dynamic_atss,
    "make": _make,
    "pip": _pip,
    "pytest": _pytest,
    "python": _python,
    "python3": _python,
    "torchrun": _torchrun,
    "torch.distributed.run": _torchrun,
    "venv": lambda words, _: None,
}
