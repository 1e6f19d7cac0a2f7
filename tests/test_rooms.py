"""Who imports whom: rooms import only what lies below them, without circles; few see cfg."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "dynamic_atss"
# From the bottom: a room imports from itself and from those before it in this list.
# `dynamic_atss` is the package's own file, with `load`.
ROOMS = """
    version quoting errors reading yaml_text suggest processes system_limits boxes ground_truth
    moved types files progress config
    ops losses assigners data modeling weights
    evaluation viz engine reports builders scoring summary inference export inspection run
    dynamic_atss cli comparison commands
    build __main__
""".split()
SEE_CFG = {
    *("config", "builders", "scoring", "summary", "run"),
    *("inference", "export", "inspection", "comparison", "cli", "commands"),
}
DOORS = {f"{PACKAGE}.ops.focal": f"{PACKAGE}.losses"}  # what is imported through its door alone

Arrow = tuple[str, str]


def modules(root: Path) -> dict[str, Path]:
    """The package's modules by dotted name."""
    names = {}
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def arrows(files: dict[str, Path]) -> set[Arrow]:
    """(importing module, imported module), also for imports inside functions."""
    return {
        (name, target)
        for name, path in files.items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for target in targets(node, files)
        if target.split(".")[0] == PACKAGE
    }


def targets(node: ast.AST, files: dict[str, Path]) -> Iterator[str]:
    """`from a import b` is an arrow to the module a.b, if there is one, and else to a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are written from the root"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in files else str(node.module)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else PACKAGE


def upwards(found: Iterable[Arrow]) -> list[str]:
    return sorted(f"{a} -> {b}" for a, b in found if ROOMS.index(room(a)) < ROOMS.index(room(b)))


def circle(found: Iterable[Arrow]) -> list[str]:
    """The modules of a circle in the order of their imports, or []: what is left after all that
    import nothing of the rest are taken away."""
    below: dict[str, set[str]] = {}
    for a, b in found:
        below.setdefault(a, set()).add(b)
    while leaves := [m for m, rest in below.items() if not rest & below.keys()]:
        for leaf in leaves:
            del below[leaf]
    path = sorted(below)[:1]
    while path and path[-1] not in path[:-1]:
        path.append(min(below[path[-1]] & below.keys()))
    return path[path.index(path[-1]) :] if path else []


def mentions_cfg(tree: ast.Module) -> bool:
    """A name `cfg` or anything of yacs."""
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


def test_few_rooms_see_cfg(files):
    seen = {n for n, path in files.items() if mentions_cfg(ast.parse(path.read_text("utf-8")))}
    assert {room(name) for name in seen} == SEE_CFG, sorted(seen)


def test_losses_come_through_their_door(files):
    beside = {(a, b) for a, b in arrows(files) if b in DOORS and a != DOORS[b]}
    assert not beside


# --- the tests themselves see what they should ---------------------------------------------------


def write(root: Path, content: dict[str, str]) -> dict[str, Path]:
    for name, text in content.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return modules(root)


def test_an_arrow_upwards_is_named_wherever_it_stands(tmp_path):
    late = f"def f():\n    from {PACKAGE}.engine import trainer\n"
    found = arrows(write(tmp_path, {"modeling/head.py": late, "engine/trainer.py": ""}))
    assert upwards(found) == ["dynamic_atss.modeling.head -> dynamic_atss.engine.trainer"]


def test_a_circle_is_named_without_what_leads_to_it(tmp_path):
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
    ("text", "seen"),
    [
        ("def build(cfg): ...", True),
        ("class A:\n    def __init__(self, c): self.cfg = c", True),
        ("from yacs.config import CfgNode", True),
        ("def f(model): return model.pretrained_cfg", False),
        ("def f(topk: int): return topk", False),
    ],
)
def test_what_counts_as_seeing_cfg(text, seen):
    assert mentions_cfg(ast.parse(text)) is seen
