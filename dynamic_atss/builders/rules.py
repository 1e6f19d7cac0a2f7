"""cfg -> label assignment rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.builders.heads import Head, head_key
from dynamic_atss.builders.heads.fit import ask, named
from dynamic_atss.builders.outside import construct, find, require_call
from dynamic_atss.errors import UserError

FITS = (
    "a rule has soft_labels, quality_name and needs_size, and is called with "
    "(priors, gt, predictions)"
)

# The rules that give a box one prior, with these arguments.
ONE_TO_ONE: dict[str, dict[str, Any]] = {
    "poto": {},
    "task_aligned": {"topk": 1, "candidates": "box"},  # of all points the best is often outside
    "small_target_aligned": {"per_box": 1},
    "topk": {"topk": 1},
}


def rule_name(cfg: CfgNode, head: Head) -> str:
    """MODEL.ASSIGNER.NAME or, where that is "", the head's default rule.

    Raises:
        UserError: the default is neither a known rule nor code.
    """
    rule = ask(head, "default_rule")
    if rule not in ASSIGNERS and ":" not in rule:
        raise UserError(
            f"{named(head)}: its default_rule (or rule) is {rule!r}; accepted are "
            f'{", ".join(ASSIGNERS)}, and code of your own, as "path/to/file.py:Name"'
        )
    return cfg.MODEL.ASSIGNER.NAME or rule


def rule_arguments(cfg: CfgNode, head: Head) -> dict[str, Any]:
    """What the head's keys say of the rule, or the length of the training, and
    MODEL.ASSIGNER.ARGS."""
    name = rule_name(cfg, head)
    known = {"iterations": cfg.SOLVER.MAX_ITER} if name == "o2f" else head.rule_arguments(name)
    return known | dict(cfg.MODEL.ASSIGNER.ARGS)


def rule_origin(cfg: CfgNode, head: Head) -> str:
    """What of the configuration chooses the rule, for the log."""
    if cfg.MODEL.ASSIGNER.NAME:
        return "named by MODEL.ASSIGNER.NAME"
    rule, key = head.default_rule(), head_key(cfg)
    if rule != head.rule and head.rule_key:
        key = f"MODEL.{head.section}.{head.rule_key} {head.own[head.rule_key]}"
    return f"{key} -> rule {rule}"


def build_assigner(cfg: CfgNode, head: Head) -> Assigner:
    """The rule that MODEL.ASSIGNER.NAME names or, where that is "", the head's own; with what the
    head's keys say of it and MODEL.ASSIGNER.ARGS.

    Raises:
        UserError: unknown names or arguments.
    """
    given = rule_name(cfg, head), rule_arguments(cfg, head)
    return _built("MODEL.ASSIGNER", *given, ASSIGNERS, head)


def build_one_to_one(cfg: CfgNode, head: Head) -> Assigner:
    """The rule of MODEL.ONE_TO_ONE.NAME, with MODEL.ONE_TO_ONE.ARGS.

    Raises:
        UserError: as `build_assigner`; a rule of ours that gives a box several priors.
    """
    name = cfg.MODEL.ONE_TO_ONE.NAME
    if name in ASSIGNERS and name not in ONE_TO_ONE:
        raise UserError(
            f"MODEL.ONE_TO_ONE.NAME {name!r}: gives a box several priors, whose detections only "
            f"NMS would make one; choose one of {', '.join(ONE_TO_ONE)}"
        )
    known = {rule: ASSIGNERS[rule] for rule in ONE_TO_ONE}
    return _built("MODEL.ONE_TO_ONE", name, one_to_one_arguments(cfg), known, head)


def one_to_one_arguments(cfg: CfgNode) -> dict[str, Any]:
    """What makes the rule one of a prior for a box, and MODEL.ONE_TO_ONE.ARGS."""
    own = cfg.MODEL.ONE_TO_ONE
    return ONE_TO_ONE.get(own.NAME, {}) | dict(own.ARGS)


def _built(
    section: str, name: str, arguments: Mapping[str, Any], known: Mapping[str, Any], head: Head
) -> Assigner:
    """section: whose keys NAME and ARGS are · known: the rules by name."""
    key = f"{section}.NAME"
    make = find(key, name, known)
    require_call(key, name, make, 3, FITS)
    rule = construct(f"{section}.ARGS", name, make, **arguments)
    missing = [x for x in Assigner.__annotations__ if not hasattr(rule, x)]
    if missing:
        raise UserError(f"{key} {name!r}: has no {', '.join(missing)}; {FITS}")
    return head.wrapped(rule)
