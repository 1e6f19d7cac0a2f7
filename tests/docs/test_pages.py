"""The pages: their links, their contents, and the tables of all keys."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from helpers_docs import PAGES, ROOT
from helpers_run import load_module

from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.load import known_keys

LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub and mkdocs both make them."""
    bare = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_link_is_dead(page):
    for found in LINK.finditer(page.read_text()):
        target = (page.parent / found["path"]).resolve() if found["path"] else page
        assert target.exists(), f"{page.name}: {found[0]}"
        if found["anchor"] and target.suffix == ".md":
            assert found["anchor"] in anchors(target.read_text()), f"{page.name}: {found[0]}"


def test_every_page_is_in_the_contents():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r"(\w+\.md)$", text, re.MULTILINE))
    assert listed == {page.name for page in PAGES if page.parent.name == "docs"}
    hooks = yaml.safe_load(text)["hooks"]
    assert all((ROOT / hook).is_file() for hook in hooks)


def test_the_page_of_all_rows_has_the_tables_of_the_results():
    report = load_module("benchmarks/report.py")
    page = (ROOT / "docs/benchmarks_all.md").read_text()
    results = json.loads((ROOT / "docs/benchmarks.json").read_text())
    assert report.with_tables(page, results) == page and "GPU" not in page


def test_the_page_of_keys_has_each_once_with_its_limits():
    pages = load_module("docs/pages.py")
    rows = pages.keys().splitlines()
    named = [row.split("`")[1] for row in rows if row.startswith("| `")]
    assert named == [*dict.fromkeys(named)] and {*named} == {*known_keys(default_config())}
    row = {row.split("`")[1]: row for row in rows if row.startswith("| `")}
    assert "| number | `0.0` | at least 0, at most 0.5 |" in row["INPUT.HUE"]
    assert "| list of integers | `(800,)` | at least 1 |" in row["INPUT.MIN_SIZE_TRAIN"]
    assert "`'sgd'`, `'adamw'`" in row["SOLVER.OPTIMIZER"]


def test_a_page_takes_in_a_file_with_links_as_seen_from_its_folder():
    pages = load_module("docs/pages.py")
    text = pages.on_page_markdown("<!-- include: README.md up to More -->")
    assert (
        "](docs/" not in text
        and "](install.md)" in text
        and "images/rules_and_detections.jpg" in text
    )
    assert "../" not in text and "## More" not in text and "<!-- run" not in text
