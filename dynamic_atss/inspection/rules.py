"""The rules that are shown: the network's own, and others in its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from dynamic_atss.suggest import hint

KEY = "MODEL.ASSIGNER.NAME"
Asked = tuple[str, str, Mapping[str, Any]]  # label, MODEL.ASSIGNER.NAME, MODEL.ASSIGNER.ARGS


@dataclass(frozen=True)
class Shown:
    """A rule of the page.

    name: as the page calls it · branch: of the head, None: it has none · rule: None: the network's
    own · own: whether it is the one that the network is trained with
    """

    name: str
    branch: str | None
    rule: Assigner | None

    @property
    def own(self) -> bool:
        return self.rule is None


def shown_rules(cfg: CfgNode, model: Detector, asked: Sequence[Asked]) -> list[Shown]:
    """The rules of `asked`, or, where there are none, those of the network.

    The name of the network's own rule, without arguments, is that one, with what it has learnt.

    Raises:
        UserError: a rule that there is not, or that does not fit the head.
    """
    own = list(_of_network(cfg, model))
    if not asked:
        return own
    mine, reads = rule_name(cfg, build_head(cfg)), getattr(model.postprocess, "branch", None)
    shown = []
    for label, name, arguments in asked:
        same = not arguments and _whole(name) == _whole(mine)
        found = [replace(one, name=label) for one in own if same and one.branch == reads]
        shown += found or [Shown(label, reads, _built(cfg, name, arguments))]
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


def _built(cfg: CfgNode, name: str, arguments: Mapping[str, Any]) -> Assigner:
    if name not in ASSIGNERS and not names_code(KEY, name):
        known, near = ", ".join(ASSIGNERS), hint(name, ASSIGNERS, "; the nearest is {}")
        raise UserError(
            f"--rules {name}: there is no such rule{near}; names are {known}, and code of your "
            "own, path/to/file.py:Name"
        )
    own = cfg.clone()
    own.defrost()
    own.MODEL.ASSIGNER.NAME = name
    own.MODEL.ASSIGNER.ARGS = CfgNode(dict(arguments))
    rule = build_assigner(own, build_head(own))
    return rule.eval() if isinstance(rule, nn.Module) else rule
