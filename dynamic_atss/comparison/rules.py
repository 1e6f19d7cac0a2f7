"""A rule as the command line names it: "topk", "topk,topk=5", "my_rule.py:Name,threshold=0.5"."""

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
    """text: as typed, with a comma before the arguments · name: of MODEL.ASSIGNER.NAME ·
    arguments: of MODEL.ASSIGNER.ARGS"""

    text: str
    name: str
    arguments: dict[str, Any]

    @property
    def label(self) -> str:
        """As typed, without the folder of a file."""
        return self.text.removeprefix(self._folder)

    @property
    def folder(self) -> str:
        """Of its runs; where the name cannot tell all of the text, with a checksum."""
        plain = re.sub(r"[^A-Za-z0-9_.=,+-]", "-", self.label)
        told = self.text.replace(":", "-") == plain
        return plain if told else f"{plain}-{hashlib.sha256(self.text.encode()).hexdigest()[:6]}"

    @property
    def _folder(self) -> str:
        place, found, _ = self.name.partition(".py:")
        return self.name[: len(place) - len(PurePath(place).name)] if found else ""


def parsed(texts: Sequence[str]) -> list[Rule]:
    """The rules of a command line.

    Raises:
        UserError: none, one twice, or one that is not written so.
    """
    rules = [_parsed(text) for text in texts]
    if not rules:
        raise UserError(f"--rules: give two rules or more; {_FORM}")
    twice = [rule.text for i, rule in enumerate(rules) if rule in rules[:i]]
    if twice:
        raise UserError(f"--rules: {twice[0]} is given twice")
    return rules


def _parsed(text: str) -> Rule:
    name, *rest = _FIRST.split(text, maxsplit=1)
    if not name or "=" in name:
        raise UserError(f"--rules {text!r}: {_FORM}")
    pairs = [part.partition("=") for part in (_NEXT.split(rest[0]) if rest else ())]
    arguments = {key: decoded(value) for key, _, value in pairs}
    if len(arguments) < len(pairs):
        raise UserError(f"--rules {text!r}: an argument is given twice")
    return Rule(",".join([name, *rest]), name, arguments)
