"""The rules that are shown: the network's own, and others in its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.builders.heads import build_head
from dynamic_atss.builders.rules import build_assigner, rule_name
from dynamic_atss.config.code import names_code
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.branches import branch
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.head import HeadOutput

KEY = "MODEL.ASSIGNER.NAME"


@dataclass(frozen=True)
class Shown:
    """A rule of the page.

    name: for people · branch: of the head, None: it has none · rule: None: the network's own ·
    own: whether it is the one that the network is trained with
    """

    name: str
    branch: str | None
    rule: Assigner | None

    @property
    def own(self) -> bool:
        return self.rule is None


def shown_rules(cfg: CfgNode, model: Detector, asked: Sequence[str]) -> list[Shown]:
    """The rules of `asked`, each NAME or NAME,ARGUMENT=VALUE,...; none: those of the network.

    The name of the network's own rule, without arguments, is that one, with what it has learnt.

    Raises:
        UserError: a rule that there is not, or that does not fit the head.
    """
    own = list(_of_network(cfg, model))
    if not asked:
        return own
    name, reads = rule_name(cfg, build_head(cfg)), getattr(model.postprocess, "branch", None)
    shown = []
    for text in asked:
        mine = [one for one in own if one.branch == reads and _whole(text) == _whole(name)]
        shown += mine or [Shown(text, reads, _built(cfg, text))]
    return shown


def _whole(name: str) -> tuple[str, str]:
    """A name of code means the same however its path is written."""
    place, _, attribute = name.rpartition(":")
    return (str(Path(place).resolve()) if place.endswith(".py") else place), attribute


def _of_network(cfg: CfgNode, model: Detector) -> Iterator[Shown]:
    name = rule_name(cfg, build_head(cfg)).rpartition(":")[2]
    for place in criteria(model):
        rule = criteria(model)[place].assigner
        label = name if place is None else f"{place}: {_class_name(rule)}"
        yield Shown(label, place, None)


def _class_name(rule: Any) -> str:
    while hasattr(rule, "rule"):  # what stands around it
        rule = rule.rule
    names = [name for name, kind in ASSIGNERS.items() if type(rule) is kind]
    return names[0] if names else type(rule).__name__


def criteria(model: Detector) -> dict[str | None, Any]:
    """What asks a rule, by branch of the head; None: the head has none.

    Raises:
        UserError: a criterion of the user's keeps its rule elsewhere.
    """
    criterion: Any = model.criterion
    by_branch = getattr(criterion, "criteria", None)
    found: dict[str | None, Any] = {None: criterion}
    if isinstance(by_branch, nn.ModuleDict):
        found = {}
        found.update(by_branch.items())
    for one in found.values():
        if not (hasattr(one, "assigner") and hasattr(one, "coder")):
            raise UserError(
                f"criterion {type(one).__name__}: has no `assigner` and `coder`, as a "
                "DenseCriterion has, so that its rule cannot be shown"
            )
    return found


def asked_of(model: Detector, shown: Shown, output: Any) -> tuple[Assigner, HeadOutput, Any]:
    """The rule, the branch's output and the boxes (N, P, 4) that it predicts are made of."""
    every = criteria(model)
    own = every.get(shown.branch) or next(iter(every.values()))
    read = branch(output, shown.branch, f"rule {shown.name}")
    return shown.rule or own.assigner, read, own.coder


def _built(cfg: CfgNode, text: str) -> Assigner:
    name, *arguments = text.split(",")
    own = cfg.clone()
    own.defrost()
    own.MODEL.ASSIGNER.NAME = name
    own.MODEL.ASSIGNER.ARGS = CfgNode(dict(_argument(text, one) for one in arguments))
    if name not in ASSIGNERS and not names_code(KEY, name):
        known = ", ".join(ASSIGNERS)
        raise UserError(
            f"--rules {text}: there is no rule {name!r}; names are {known}, and code "
            "of your own, path/to/file.py:Name"
        )
    rule = build_assigner(own, build_head(own))
    return rule.eval() if isinstance(rule, nn.Module) else rule


def _argument(text: str, pair: str) -> tuple[str, Any]:
    key, equals, value = pair.partition("=")
    if not equals or not key.isidentifier():
        raise UserError(f"--rules {text}: write NAME, or NAME,ARGUMENT=VALUE as atss,topk=5")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
