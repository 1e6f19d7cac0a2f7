"""Builds label assignment rules from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.builders.heads import Head, head_key
from dynamic_atss.builders.heads.check_head import call_checked, head_label
from dynamic_atss.builders.user_code import construct, find, require_call
from dynamic_atss.errors import UserError

REQUIREMENT = (
    "a rule has soft_labels, quality_name and needs_size, and is called with "
    "(priors, gt, predictions)"
)

# Rules that assign one prior to a box, and the arguments for that.
ONE_TO_ONE: dict[str, dict[str, Any]] = {
    "poto": {},
    # With "image", the best of all points often lies outside the box.
    "task_aligned": {"topk": 1, "candidates": "box"},
    "small_target_aligned": {"per_box": 1},
    "topk": {"topk": 1},
}


def rule_name(cfg: CfgNode, head: Head) -> str:
    """Returns MODEL.ASSIGNER.NAME, or the default rule of the head if the name is "".

    Raises:
        UserError: the default is neither a known rule nor code.
    """
    rule = call_checked(head, "default_rule")
    if rule not in ASSIGNERS and ":" not in rule:
        raise UserError(
            f"{head_label(head)}: its default_rule (or rule) is {rule!r}; accepted are "
            f'{", ".join(ASSIGNERS)}, and code of your own, as "path/to/file.py:Name"'
        )
    return cfg.MODEL.ASSIGNER.NAME or rule


def rule_arguments(cfg: CfgNode, head: Head) -> dict[str, Any]:
    """Joins the arguments of the rule from the head's section and from MODEL.ASSIGNER.ARGS.

    The rule o2f gets the length of the training.
    """
    name = rule_name(cfg, head)
    known = {"iterations": cfg.SOLVER.MAX_ITER} if name == "o2f" else head.rule_arguments(name)
    return known | dict(cfg.MODEL.ASSIGNER.ARGS)


def rule_origin(cfg: CfgNode, head: Head) -> str:
    """Says for the log which key chooses the rule."""
    if cfg.MODEL.ASSIGNER.NAME:
        return "named by MODEL.ASSIGNER.NAME"
    rule, key = head.default_rule(), head_key(cfg)
    if rule != head.rule and head.rule_key:
        key = f"MODEL.{head.section}.{head.rule_key} {head.settings[head.rule_key]}"
    return f"{key} -> rule {rule}"


def build_assigner(cfg: CfgNode, head: Head) -> Assigner:
    """Builds the rule of MODEL.ASSIGNER.NAME, or the default rule of the head if the name is "".

    Raises:
        UserError: a name or an argument is unknown.
    """
    given = rule_name(cfg, head), rule_arguments(cfg, head)
    return _built("MODEL.ASSIGNER", *given, ASSIGNERS, head)


def build_one_to_one(cfg: CfgNode, head: Head) -> Assigner:
    """Builds the rule of MODEL.ONE_TO_ONE.NAME, with MODEL.ONE_TO_ONE.ARGS.

    Raises:
        UserError: as `build_assigner`, and if the rule assigns several priors to a box.
    """
    name = cfg.MODEL.ONE_TO_ONE.NAME
    if name in ASSIGNERS and name not in ONE_TO_ONE:
        raise UserError(
            f"MODEL.ONE_TO_ONE.NAME {name!r}: assigns several priors to a box, which would need "
            f"NMS; choose one of {', '.join(ONE_TO_ONE)}"
        )
    known = {rule: ASSIGNERS[rule] for rule in ONE_TO_ONE}
    return _built("MODEL.ONE_TO_ONE", name, one_to_one_arguments(cfg), known, head)


def one_to_one_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Joins the arguments that limit the rule to one prior a box with MODEL.ONE_TO_ONE.ARGS."""
    section = cfg.MODEL.ONE_TO_ONE
    return ONE_TO_ONE.get(section.NAME, {}) | dict(section.ARGS)


def _built(
    section: str, name: str, arguments: Mapping[str, Any], known: Mapping[str, Any], head: Head
) -> Assigner:
    """Builds a rule.

    Args:
        section: the section of the configuration that has the keys NAME and ARGS.
        name: the name of the rule.
        arguments: its keyword arguments.
        known: the rules by name.
        head: wraps the rule.
    """
    key = f"{section}.NAME"
    make = find(key, name, known)
    require_call(key, name, make, 3, REQUIREMENT)
    rule = construct(f"{section}.ARGS", name, make, **arguments)
    missing = [x for x in Assigner.__annotations__ if not hasattr(rule, x)]
    if missing:
        raise UserError(f"{key} {name!r}: has no {', '.join(missing)}; {REQUIREMENT}")
    return head.wrapped(rule)
