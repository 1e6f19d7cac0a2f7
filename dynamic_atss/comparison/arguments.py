"""Checks lists of words of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.load import known_keys
from dynamic_atss.config.special_keys import FREE_SECTIONS
from dynamic_atss.errors import UserError


def split_at_key(words: list[str]) -> tuple[list[str], list[str]]:
    """Splits the words before the first key of the configuration.

    argparse puts all words after --rules or --seeds into that list, also KEY VALUE pairs.
    """
    keys = {*known_keys(default_config())}
    for place, word in enumerate(words):
        if word in keys or word.startswith(tuple(f"{section}." for section in FREE_SECTIONS)):
            return words[:place], words[place:]
    return words, []


def integers(words: Sequence[str]) -> list[int]:
    """Reads the seeds. Raises UserError if a word is not an integer."""
    try:
        return [int(word) for word in words]
    except ValueError:
        raise UserError(f"--seeds {' '.join(words)}: give integers, such as 0 1 2") from None


def check_arguments(config_file: str, rules: Sequence[str], folders: Sequence[str]) -> None:
    """Raises UserError if an argument is missing."""
    if config_file and not rules:
        raise UserError("command line: --rules is missing: give the rules to train with")
    if rules and not config_file:
        raise UserError("command line: --config-file is missing: give the file to train with")
    if not rules and not folders:
        raise UserError(
            "command line: nothing to compare: give --config-file FILE --rules RULE RULE, or the "
            "folders of finished runs"
        )
