"""Tests that the page shows texts from files as text and loads nothing."""

import re
from pathlib import Path

import pytest
from helpers_browser import BROWSER, Page
from helpers_pages import data_of

import dynamic_atss
from dynamic_atss.inspection.page import SCRIPTS, page

PARTS = Path(dynamic_atss.__file__).parent / "inspection/page"
EVIL = "</script><img src=x onerror=alert(1)>&\u202e\n$data"


def evil():
    """Gives a page's data without pictures and with dangerous texts."""
    texts = {"title": EVIL, "data": EVIL, "classes": [EVIL], "reasons": [EVIL]}
    return {**texts, "steps": [{"name": EVIL, "weights": EVIL}], "rules": [], "pictures": []}


def test_names_end_no_element_and_come_through():
    text = page(evil())
    assert text.count("</script>") == 2 and "<img" not in text
    assert "\u202e" not in text
    shown = "</script><img src=x onerror=alert(1)>&\\u202e\\n$data"
    assert data_of(text)["classes"] == [shown]


def test_every_script_is_in_the_page():
    assert {path.stem for path in PARTS.glob("*.js")} == set(SCRIPTS)


@pytest.mark.parametrize("path", sorted(PARTS.glob("*")), ids=lambda path: path.name)
def test_nothing_is_loaded(path):
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w|@import|url\((?!#)|fetch\(|XMLHttp|innerHTML", text)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_names_are_texts_in_the_browser(run, tmp_path):
    """Gives dangerous names to a rule, a class, a picture and a reason of a real page."""
    from helpers_pages import Inspect

    class Silent:
        def readouterr(self):
            return "", ""

    output = tmp_path / "page.html"
    _, data = Inspect(Silent()).page("--weights", run, "--count", 1, "--output", output)
    data["rules"][0]["name"] = data["pictures"][0]["name"] = data["data"] = EVIL
    data["classes"] = [EVIL for _ in data["classes"]]
    data["reasons"] = [EVIL for _ in data["reasons"]]
    output.write_text(page(data))
    with Page(tmp_path / "profile") as browser:
        browser.open(output.as_uri())
        browser.run("choose(0)")
        browser.settle()
        assert browser.run("document.querySelectorAll('img').length") == 0
        assert "<img src=x" in browser.run("document.getElementById('details').innerText")
        assert browser.messages == []
