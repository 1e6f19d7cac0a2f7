"""Tests that names from files cannot harm a terminal, a log or a file."""

import logging
import pickle

import pytest

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.engine.logger import ROOT, setup_logging
from dynamic_atss.errors import LONGEST_MESSAGE, UserError
from dynamic_atss.quoting import LONGEST, printable, shown


@pytest.mark.parametrize(
    ("text", "as_shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31m\r\n", r"a\x1b[31m\r\n"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("\u2028\x85\x7f\ufeff", r"\u2028\x85\x7f\ufeff"),
        ("é 中 \U0001f600 \u00a0", "é 中 \U0001f600 \u00a0"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        (r"\n", r"\n"),
    ],
)
def test_characters_that_cannot_be_shown_become_escapes(text, as_shown):
    assert printable(text) == as_shown and printable(as_shown) == as_shown
    as_shown.encode()


def test_values_of_any_size_can_be_shown():
    assert shown("a\n") == r"'a\n'" and len(shown("x" * 9999)) == LONGEST
    assert shown(10**5000) == "a int too large to be shown"
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "a list too large to be shown"


def test_every_user_error_is_printable():
    error = UserError("file\x1b[2J: a\nb")
    assert str(error) == "file\\x1b[2J: a\nb"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_no_name_forges_a_line_of_the_log(tmp_path):
    log = setup_logging(tmp_path)
    forged = "x\n2026-01-01 00:00:00 INFO all is well"
    logging.getLogger(f"{ROOT}.test").warning("%s: \x1b[31m%s\udcff", tmp_path / forged, forged)
    log.info("a table\nof two lines")
    lines = (tmp_path / "log.txt").read_text("utf-8").splitlines()
    setup_logging()
    assert len([line for line in lines if line.startswith("20")]) == 2
    assert lines[0].endswith(r"x\n2026-01-01 00:00:00 INFO all is well: \x1b[31mx")
    assert lines[1].startswith("  2026-01-01") and lines[1].endswith(r"all is well\udcff")
    assert lines[-1] == "of two lines"


def test_class_names_are_printable_from_the_start():
    content = Annotations.of_rows(["a.png"], ["\ud800x", "b\n"], [])
    assert content.class_names == [r"\ud800x", r"b\n"]


def test_a_message_that_is_too_long_loses_its_middle():
    """An unknown key of 5000 characters made such a message. tests/fuzz found it."""
    message = str(UserError(f"x.yaml: unknown key {'1' * 5000}; the nearest is SEED"))
    assert len(message) <= LONGEST_MESSAGE and " [...] " in message
    assert message.startswith("x.yaml: unknown key 111") and message.endswith(
        "1; the nearest is SEED"
    )
    assert str(UserError("a" * LONGEST_MESSAGE)) == "a" * LONGEST_MESSAGE
