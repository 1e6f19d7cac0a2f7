"""Tests which modules import which.

A room is a folder or file at the top of the package. Rooms import only from rooms below them,
without circles, and only a few of them use cfg.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "dynamic_atss"
# From the bottom to the top: a room imports from itself and from those before it in this list.
# `dynamic_atss` is the file __init__.py.
ROOMS = """
    version quoting errors reading yaml_text suggest processes system_limits boxes moved
    ground_truth types files progress config
    ops losses assigners data modeling weights
    evaluation viz engine reports builders scoring summary inference export inspection run
    dynamic_atss cli comparison commands
    build __main__
""".split()
USE_CFG = {
    "config",
    "builders",
    "scoring",
    "summary",
    "run",
    "inference",
    "export",
    "inspection",
    "comparison",
    "cli",
    "commands",
}
DOORS = {f"{PACKAGE}.ops.focal": f"{PACKAGE}.losses"}  # module -> the only module that imports it

Arrow = tuple[str, str]


def modules(root: Path) -> dict[str, Path]:
    """Gives the package's modules by dotted name."""
    names = {}
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def arrows(files: dict[str, Path]) -> set[Arrow]:
    """Gives all (importing module, imported module), also for imports inside functions."""
    return {
        (name, target)
        for name, path in files.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for target in targets(node, files)
        if target.split(".")[0] == PACKAGE
    }


def targets(node: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    """Yields the modules that a node imports. `from a import b` imports a.b if that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are written from the root"
        for alias in node.names:
            full_name = f"{node.module}.{alias.name}"
            yield full_name if full_name in files else str(node.module)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else PACKAGE


def upwards(found: Iterable[Arrow]) -> list[str]:
    return sorted(f"{a} -> {b}" for a, b in found if ROOMS.index(room(a)) < ROOMS.index(room(b)))


def circle(found: Iterable[Arrow]) -> list[str]:
    """Gives the modules of a circle in the order of their imports; [] if there is none.

    Removes modules that import none of the others until only circles, and what leads to them, are
    left.
    """
    below: dict[str, set[str]] = {}
    for a, b in found:
        below.setdefault(a, set()).add(b)
    while leaves := [m for m, imported in below.items() if not imported & below.keys()]:
        for leaf in leaves:
            del below[leaf]
    path = sorted(below)[:1]
    while path and path[-1] not in path[:-1]:
        path.append(min(below[path[-1]] & below.keys()))
    return path[path.index(path[-1]) :] if path else []


def mentions_cfg(tree: ast.Module) -> bool:
    """Returns True if a module uses the name `cfg` or imports yacs."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            if any(name.split(".")[0] == "yacs" for name in names):
                return True
        if "cfg" in (getattr(node, "id", ""), getattr(node, "arg", ""), getattr(node, "attr", "")):
            return True
    return False


@pytest.fixture(scope="module")
def files() -> dict[str, Path]:
    return modules(ROOT)


def test_every_module_has_a_room(files):
    assert len(files) > 80
    assert {room(name) for name in files} == set(ROOMS)


def test_the_map_of_the_documentation_is_in_this_order():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    tree = text.partition(f"```text\n{PACKAGE}/\n")[2].partition("```")[0]
    listed = [line.split()[0] for line in tree.splitlines() if line[2] != " "]
    folder = ROOT / PACKAGE
    files = [PACKAGE if name == "__init__.py" else name for name in listed]
    assert [name.removesuffix(".py").rstrip("/") for name in files] == ROOMS
    assert all((folder / name).exists() for name in listed)


def test_no_import_runs_upwards(files):
    assert not upwards(arrows(files))


def test_there_are_no_circles(files):
    found = arrows(files)
    assert not circle(found), "between modules"
    assert not circle({(room(a), room(b)) for a, b in found if room(a) != room(b)}), "between rooms"


def test_tools_and_benchmarks_are_imported_by_none(files):
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            first = {target.split(".")[0] for target in targets(node, files)}
            assert not first & {"tools", "benchmarks", "examples", "tests"}, name


def test_only_a_few_rooms_use_cfg(files):
    users = {n for n, path in files.items() if mentions_cfg(ast.parse(path.read_text("utf-8")))}
    assert {room(name) for name in users} == USE_CFG, sorted(users)


def test_losses_come_through_their_door(files):
    others = {(a, b) for a, b in arrows(files) if b in DOORS and a != DOORS[b]}
    assert not others


# --- tests of the functions above ----------------------------------------------------------------


def write(root: Path, content: dict[str, str]) -> dict[str, Path]:
    for name, text in content.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return modules(root)


def test_an_import_upwards_inside_a_function_is_found(tmp_path):
    late = f"def f():\n    from {PACKAGE}.engine import trainer\n"
    found = arrows(write(tmp_path, {"modeling/head.py": late, "engine/trainer.py": ""}))
    assert upwards(found) == ["dynamic_atss.modeling.head -> dynamic_atss.engine.trainer"]


def test_a_circle_is_named_without_the_modules_that_lead_to_it(tmp_path):
    texts = {"a": "b", "b": "c", "c": "d", "d": "b", "e": ""}
    content = {
        f"ops/{name}.py": f"import {PACKAGE}.ops.{target}\n" if target else ""
        for name, target in texts.items()
    }
    names = [name.split(".")[-1] for name in circle(arrows(write(tmp_path, content)))]
    assert names == ["b", "c", "d", "b"]
    del content["ops/d.py"]
    assert circle(arrows(modules_without(tmp_path, "d"))) == []


def modules_without(root: Path, name: str) -> dict[str, Path]:
    (root / PACKAGE / "ops" / f"{name}.py").unlink()
    return modules(root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def build(cfg): ...", True),
        ("class A:\n    def __init__(self, c): self.cfg = c", True),
        ("from yacs.config import CfgNode", True),
        ("def f(model): return model.pretrained_cfg", False),
        ("def f(topk: int): return topk", False),
    ],
)
def test_uses_of_cfg(text, expected):
    assert mentions_cfg(ast.parse(text)) is expected
