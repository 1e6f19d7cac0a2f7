"""Chooses the rules of the page: those of the network, or others in their place."""

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
RequestedRule = tuple[
    str, str, Mapping[str, Any]
]  # label, MODEL.ASSIGNER.NAME, MODEL.ASSIGNER.ARGS


@dataclass(frozen=True)
class ShownRule:
    """Describes a rule of the page.

    Attributes:
        name: its label on the page.
        branch: the branch of the head; None: the head has no branches.
        rule: the rule; None: the rule that the network is trained with.
    """

    name: str
    branch: str | None
    rule: Assigner | None

    @property
    def of_network(self) -> bool:
        """Returns True if the network is trained with this rule."""
        return self.rule is None


def shown_rules(
    cfg: CfgNode, model: Detector, requested: Sequence[RequestedRule]
) -> list[ShownRule]:
    """Gives the requested rules, or those of the network when none is requested.

    The name of the network's rule, given without arguments, selects the trained rule itself.

    Raises:
        UserError: a rule does not exist, or does not fit the head.
    """
    trained = list(_of_network(cfg, model))
    if not requested:
        return trained
    trained_name = rule_name(cfg, build_head(cfg))
    branch_read = getattr(model.postprocess, "branch", None)
    shown = []
    for label, name, arguments in requested:
        same = not arguments and _resolved(name) == _resolved(trained_name)
        found = [
            replace(rule, name=label) for rule in trained if same and rule.branch == branch_read
        ]
        shown += found or [ShownRule(label, branch_read, _built(cfg, name, arguments))]
    return shown


def _resolved(name: str) -> tuple[str, str]:
    """Makes the path in a name absolute, so that two spellings of one file compare equal."""
    place, _, attribute = name.rpartition(":")
    return (str(Path(place).resolve()) if place.endswith(".py") else place), attribute


def _of_network(cfg: CfgNode, model: Detector) -> Iterator[ShownRule]:
    name = rule_name(cfg, build_head(cfg)).rpartition(":")[2]
    for place in criteria(model):
        rule = criteria(model)[place].assigner
        label = name if place is None else f"{place}: {_class_name(rule)}"
        yield ShownRule(label, place, None)


def _class_name(rule: Any) -> str:
    while hasattr(rule, "rule"):  # a wrapper
        rule = rule.rule
    names = [name for name, kind in ASSIGNERS.items() if type(rule) is kind]
    return names[0] if names else type(rule).__name__


def criteria(model: Detector) -> dict[str | None, Any]:
    """Gives the criteria that call a rule, by branch of the head. None: a head without branches.

    Raises:
        UserError: a custom criterion has no `assigner` or `coder`.
    """
    criterion: Any = model.criterion
    by_branch = getattr(criterion, "criteria", None)
    found: dict[str | None, Any] = {None: criterion}
    if isinstance(by_branch, nn.ModuleDict):
        found = {}
        found.update(by_branch.items())
    for part in found.values():
        if not (hasattr(part, "assigner") and hasattr(part, "coder")):
            raise UserError(
                f"criterion {type(part).__name__}: its rule cannot be shown, because it lacks the "
                "attributes `assigner` and `coder`; add them as DenseCriterion does"
            )
    return found


def rule_inputs(model: Detector, shown: ShownRule, output: Any) -> tuple[Assigner, HeadOutput, Any]:
    """Gives the rule, the output of its branch, and the coder that decodes the output's boxes."""
    by_branch = criteria(model)
    criterion = by_branch.get(shown.branch) or next(iter(by_branch.values()))
    read = branch(output, shown.branch, f"rule {shown.name}")
    return shown.rule or criterion.assigner, read, criterion.coder


def _built(cfg: CfgNode, name: str, arguments: Mapping[str, Any]) -> Assigner:
    if name not in ASSIGNERS and not names_code(KEY, name):
        known, near = ", ".join(ASSIGNERS), hint(name, ASSIGNERS, "; the nearest is {}")
        raise UserError(
            f"--rules {name}: there is no such rule{near}; give one of {known}, or your code as "
            "path/to/file.py:Name"
        )
    changed = cfg.clone()
    changed.defrost()
    changed.MODEL.ASSIGNER.NAME = name
    changed.MODEL.ASSIGNER.ARGS = CfgNode(dict(arguments))
    rule = build_assigner(changed, build_head(changed))
    return rule.eval() if isinstance(rule, nn.Module) else rule
