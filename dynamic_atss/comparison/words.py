"""Lists of words on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.kinds import FREE_SECTIONS
from dynamic_atss.config.load import known_keys
from dynamic_atss.errors import UserError


def before_keys(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first key of the configuration, and the rest: after a list of rules
    or seeds KEY VALUE may follow, and argparse takes all for the list."""
    keys = {*known_keys(default_config())}
    for place, word in enumerate(words):
        if word in keys or word.startswith(tuple(f"{section}." for section in FREE_SECTIONS)):
            return words[:place], words[place:]
    return words, []


def whole_numbers(words: Sequence[str]) -> list[int]:
    """Seeds. Raises UserError: a word is no whole number."""
    try:
        return [int(word) for word in words]
    except ValueError:
        raise UserError(f"--seeds {' '.join(words)}: give whole numbers") from None


def check_what(config_file: str, rules: Sequence[str], rest: Sequence[str]) -> None:
    """Raises UserError: there is nothing to compare, or half of what a training needs."""
    if config_file and not rules:
        raise UserError("command line: --rules is missing: give the rules to train with")
    if rules and not config_file:
        raise UserError("command line: --config-file is missing: give what the rules train with")
    if not rules and not rest:
        raise UserError(
            "command line: nothing to compare: give --config-file FILE --rules RULE RULE, or the "
            "folders of finished runs"
        )
