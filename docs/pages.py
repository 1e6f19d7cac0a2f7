"""The hook of mkdocs: what pages take from other files, and links that leave the folder of pages.

A page holds a comment where the text of a file goes, in place of its line (`include: FILE`, or
`include: FILE up to HEADING`), or the tables of all keys (`keys`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r"<!-- include: (?P<file>\S+?)(?: up to (?P<end>[^>]+?))? -->.*")
PICTURE = re.compile(r"\[(?P<image>!\[[^\]]*\]\([^)]+\))\]\(\.\./[^)]+\)")  # with such a link
OUTSIDE = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\(\.\./(?P<path>[^)#]+)(?P<anchor>#[^)]+)?\)")
COMMENT = re.compile(r"^<!-- (?:run|parse|skip|file)\b.*? -->\n", re.MULTILINE)


def on_page_markdown(markdown: str, *, config: Any = None, **_: Any) -> str:
    """A page as the site shows it."""
    text = INCLUDE.sub(lambda found: included(found["file"], found["end"]), markdown)
    if "<!-- keys -->" in text:
        text = text.replace("<!-- keys -->", keys())
    text = PICTURE.sub(lambda found: found["image"], COMMENT.sub("", text))
    return OUTSIDE.sub(lambda found: outside(found, config), text)


def included(file: str, end: str | None) -> str:
    """A file of the repository's top folder, its links as seen from the folder of pages."""
    text = (ROOT / file).read_text("utf-8")
    if end:
        text = text[: text.index(f"\n## {end}\n")]

    def moved(found: re.Match[str]) -> str:
        path = found["path"]
        inside = path.removeprefix("docs/")
        return f"]({inside})" if inside != path else f"](../{path})"

    return re.sub(r"\]\((?P<path>(?!https?:|#)[^)]+)\)", moved, text)


def outside(found: re.Match[str], config: Any) -> str:
    """A link to a file of the repository: to the page that shows it, to its address where there is
    one, else its path."""
    text, path, page = found["text"], found["path"], found["path"].lower()
    if (ROOT / "docs" / page).is_file():  # SECURITY.md is shown by security.md
        return f"[{text}]({page}{found['anchor'] or ''})"
    if config is not None and config.repo_url:
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path})"
    bare = text.strip("`")
    return f"`{path}`" if path.endswith(bare) or bare.startswith("!") else f"{text} (`{path}`)"


def keys() -> str:
    """A table for each section of the configuration."""
    from dynamic_atss.config.defaults import default_config
    from dynamic_atss.config.describe import keys as described
    from dynamic_atss.config.load import known_keys

    cfg, limits = default_config(), limits_by_key()
    values = {key: value_of(cfg, key) for key in known_keys(cfg)}
    sections: dict[str, list[str]] = {}
    for key, text in described().items():
        if key in values:
            cells = kind(values[key]), f"`{text.default}`", limits.get(key, ""), text.meaning
            row = f"| `{key}` | {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
            sections.setdefault(key.rpartition(".")[0] or "Top", []).append(row)
    head = ["| key | type | default | limits | meaning |", "|---|---|---|---|---|"]
    tables = {name: "\n".join([*head, *rows]) for name, rows in sections.items()}
    return "\n\n".join(
        f'## {name}\n\n<div class="keys" markdown="1">\n\n{table}\n\n</div>'
        for name, table in tables.items()
    )


def value_of(cfg: Any, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def kind(value: Any) -> str:
    """The type of a default, in words."""
    words = {bool: "True or False", str: "text", int: "integer", float: "number"}
    if isinstance(value, tuple | list):
        entries = {words.get(type(entry), "list") for entry in value}
        return f"list of {entries.pop()}s" if len(entries) == 1 else "list"
    return words[type(value)]


def limits_by_key() -> dict[str, str]:
    """What a value may be, from the tables that the program refuses by."""
    from dynamic_atss.builders import limits
    from dynamic_atss.builders.values import _each
    from dynamic_atss.config.defaults import default_config

    cfg = default_config()
    found: dict[str, list[str]] = {}
    for key, _, accepted in _each(cfg, limits.ACCEPTED):
        found[key] = [", ".join(f"`{name!r}`" for name in accepted)]
    for key, _, (only, _advice) in _each(cfg, limits.FIXED):
        found[key] = [f"`{only!r}` alone"]
    for words, _, table in limits.LIMITS:
        for key, _, limit in _each(cfg, table):
            found.setdefault(key, []).append(f"{words} {limit:,}")
    for key, _, count in _each(cfg, limits.ENTRIES):
        found.setdefault(key, []).append(f"{count} entries")
    return {key: ", ".join(words) for key, words in found.items()}
