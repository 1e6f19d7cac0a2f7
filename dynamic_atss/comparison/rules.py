"""Reads rules of the command line: "topk", "topk,topk=5", "my_rule.py:Name,threshold=0.5"."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from dynamic_atss.config.load import decoded
from dynamic_atss.errors import UserError

_FIRST = re.compile(r"[,:](?=[A-Za-z_]\w*=)")  # between name and arguments
_NEXT = re.compile(r",(?=[A-Za-z_]\w*=)")  # between arguments, whose values may have commas
_FORM = "write rules as NAME or NAME,argument=value,argument=value"


class Rule(NamedTuple):
    """Describes a rule of the command line.

    Attributes:
        text: the rule as typed, with a comma before the arguments.
        name: the value of MODEL.ASSIGNER.NAME.
        arguments: the values of MODEL.ASSIGNER.ARGS.
    """

    text: str
    name: str
    arguments: dict[str, Any]

    @property
    def label(self) -> str:
        """Gives the rule as typed, without the folder of a file."""
        return self.text.removeprefix(self._folder)

    @property
    def folder(self) -> str:
        """Names the folder of its runs.

        A checksum makes the name unique if characters were replaced.
        """
        plain = re.sub(r"[^A-Za-z0-9_.=,+-]", "-", self.label)
        unique = self.text.replace(":", "-") == plain
        return plain if unique else f"{plain}-{hashlib.sha256(self.text.encode()).hexdigest()[:6]}"

    @property
    def _folder(self) -> str:
        place, found, _ = self.name.partition(".py:")
        return self.name[: len(place) - len(PurePath(place).name)] if found else ""


def parsed(texts: Sequence[str]) -> list[Rule]:
    """Reads the rules of a command line.

    Raises:
        UserError: there are no rules, a rule is repeated, or a rule has another form.
    """
    rules = [_parsed(text) for text in texts]
    if not rules:
        raise UserError(f"--rules: give two or more rules; {_FORM}")
    repeated = [rule.text for i, rule in enumerate(rules) if rule in rules[:i]]
    if repeated:
        raise UserError(f"--rules: {repeated[0]} is given twice; give each rule once")
    return rules


def _parsed(text: str) -> Rule:
    name, *arguments_text = _FIRST.split(text, maxsplit=1)
    if not name or "=" in name:
        raise UserError(f"--rules {text!r}: {_FORM}")
    parts = _NEXT.split(arguments_text[0]) if arguments_text else []
    pairs = [part.partition("=") for part in parts]
    arguments = {key: decoded(value) for key, _, value in pairs}
    if len(arguments) < len(pairs):
        raise UserError(f"--rules {text!r}: an argument is given twice; give it once")
    return Rule(",".join([name, *arguments_text]), name, arguments)
