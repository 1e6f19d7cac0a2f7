"""cfg -> label assignment rule."""

from __future__ import annotations

from typing import Any

from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.builders.heads import Head, head_key
from dynamic_atss.builders.outside import construct, find, require_call
from dynamic_atss.errors import UserError

FITS = (
    "a rule has soft_labels, quality_name and needs_size, and is called with "
    "(priors, gt, predictions)"
)


def rule_name(cfg: CfgNode, head: Head) -> str:
    """MODEL.ASSIGNER.NAME or, where that is "", the head's own rule."""
    return cfg.MODEL.ASSIGNER.NAME or head.default_rule()


def rule_arguments(cfg: CfgNode, head: Head) -> dict[str, Any]:
    """What the head's keys say of the rule, and MODEL.ASSIGNER.ARGS."""
    return head.rule_arguments(rule_name(cfg, head)) | dict(cfg.MODEL.ASSIGNER.ARGS)


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
    name = rule_name(cfg, head)
    make = find("MODEL.ASSIGNER.NAME", name, ASSIGNERS)
    require_call("MODEL.ASSIGNER.NAME", name, make, 3, FITS)
    rule = construct("MODEL.ASSIGNER.ARGS", name, make, **rule_arguments(cfg, head))
    missing = [x for x in Assigner.__annotations__ if not hasattr(rule, x)]
    if missing:
        raise UserError(f"MODEL.ASSIGNER.NAME {name!r}: has no {', '.join(missing)}; {FITS}")
    return head.wrapped(rule)
