"""Tests that the files for contributors name files, targets and versions that exist."""

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.version import __version__

ROOT = Path(__file__).resolve().parents[1]


def test_the_newest_release_is_cited_and_the_next_version_is_in_development():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    newest, development = headings[1], __version__.removesuffix(".dev0")
    assert headings[0] == "Unreleased" and cited == newest
    assert (development == newest) == (development == __version__)
    assert [*map(int, development.split("."))] >= [*map(int, newest.split("."))]


def test_make_alone_lists_each_target():
    # Inside `make test`, variables would make another make print the folders that it enters.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    (line,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    listed = dict(re.findall(r"^make (\S+) +(\S.*)$", done.stdout, re.M))
    assert {*listed} == {*line.split()} - {"FORCE"}
    assert len(done.stdout.splitlines()) == len(listed) and all(map(str.strip, listed.values()))


def test_the_paths_of_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(
        re.findall(r"\b(?:dynamic_atss|tests|configs|examples|benchmarks|tools)/[\w./]+", text)
    )
    named = {name.rstrip(".") for name in named if "my_" not in name}
    assert len(named) > 15
    assert not [name for name in named if not any(ROOT.glob(f"{name}*"))]


def test_the_targets_of_contributing_exist():
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text())) <= {*known}


def test_functions_and_files_are_as_short_as_contributing_says():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    function_lines, file_lines = map(int, re.findall(r"none has more than (\d+)", text))
    for path in (ROOT / "dynamic_atss").rglob("*.py"):
        source = path.read_text("utf-8")
        assert source.count("\n") <= file_lines, path
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[bool(ast.get_docstring(node)) :]
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert lines <= function_lines, f"{path}: {node.name} has {lines} lines"


def test_a_rule_is_a_short_file():
    for path in (ROOT / "dynamic_atss/assigners/rules").glob("*.py"):
        assert path.read_text("utf-8").count("\n") <= 130, path


@pytest.mark.parametrize(
    "name", sorted(str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.yml"))
)
def test_github_can_read_it(name):
    found = yaml.safe_load((ROOT / name).read_text())
    if "workflows" in name:
        for job in found["jobs"].values():
            commands = [step["run"] for step in job["steps"] if "run" in step]
            assert commands and all((ROOT / command.split()[0]).is_file() for command in commands)
    elif "body" in found:
        ids = [part["id"] for part in found["body"]]
        assert len(ids) == len(set(ids)) and found["name"] and found["description"]


def test_hooks_and_the_container_use_what_make_installs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in repository["hooks"]:
        tool = Path(hook["entry"].split()[0])
        assert tool.parts[:2] == (".venv", "bin") and f"$(BIN)/{tool.name}" in makefile
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make install"


def test_the_readme_shows_every_rule_in_its_matrix():
    lines = (ROOT / "README.md").read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("| rules"))
    rows = "".join(lines[begin + 2 : begin + 4])
    assert sorted(re.findall(r"`(\w+)`", rows)) == sorted(ASSIGNERS)
