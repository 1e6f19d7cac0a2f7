"""Reads the fenced blocks of README and docs, and how each is tested.

A comment above a block says it: `run` (as written, in a folder with a tiny run and a tiny data
set), `parse` (its programs read the arguments, build the model and stop), `file: NAME` (the block
is that file, for the blocks below it), `skip: REASON`. Without one, Python runs and commands are
parsed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / f"{name}.md" for name in ("README", "INSTALL", "SECURITY", "CONTRIBUTING")]
TOP += [ROOT / "CHANGELOG.md", ROOT / "tests/README.md"]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
MARK = re.compile(r"<!-- (?P<mode>run|parse|skip|file)(?:: (?P<what>.+))? -->")
DEFAULT = {"python": "run", "bash": "parse"}
PLAIN = ("text", "yaml", "svg")  # shown, not typed


class Block(NamedTuple):
    """Describes a fenced block.

    Attributes:
        line: line of its fence, from 1.
        language: the language of the fence.
        mode: "run", "parse", "file", "skip" or "".
        what: the name of the file, or the reason.
        code: the text of the block.
    """

    line: int
    language: str
    mode: str
    what: str
    code: str


def blocks(page: Path) -> list[Block]:
    """Lists the fenced blocks of a page, in order."""
    found, lines = [], page.read_text("utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        language = lines[start].removeprefix("```")
        mark = MARK.fullmatch(lines[start - 1])
        mode = mark["mode"] if mark else DEFAULT.get(language, "")
        what = (mark and mark["what"]) or ""
        code = "\n".join(lines[start + 1 : number]) + "\n"
        found.append(Block(start + 1, language, mode, what, code))
        start = None
    assert start is None, f"{page.name}:{start}: a fence does not end"
    return found


def commands(code: str) -> list[list[str]]:
    """Lists the words of each command. A line that ends with a backslash continues."""
    lines = code.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [
        [word for n, word in enumerate(line) if n or not re.fullmatch(r"[A-Z_]+=.*", word)]
        for line in words
        if line
    ]
