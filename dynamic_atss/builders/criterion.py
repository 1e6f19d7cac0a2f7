"""Builds the criterion: the rule and the losses of each branch of the head."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.builders.dual import ONE_OUTPUT, Coders
from dynamic_atss.builders.heads import Head
from dynamic_atss.builders.heads.check_head import call_checked
from dynamic_atss.builders.rules import build_assigner, build_one_to_one
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.branches import BranchCriterion
from dynamic_atss.modeling.dual import ONE_TO_MANY, ONE_TO_ONE


def build_criterion(cfg: CfgNode, head: Head, coders: Coders) -> nn.Module:
    """Builds the criterion of `head`; with MODEL.ONE_TO_ONE.NAME, one for each branch.

    Args:
        coders: by branch, as `build_head_modules` returns them.

    Raises:
        UserError: a rule or argument is unknown, or the `criterion` of the head fails or already
            has branches.
    """
    assigner = build_assigner(cfg, head)
    if not cfg.MODEL.ONE_TO_ONE.NAME:
        return call_checked(head, "criterion", assigner, coders[None])
    many = call_checked(head, "criterion", assigner, coders[ONE_TO_MANY])
    if isinstance(many, BranchCriterion):
        raise UserError(ONE_OUTPUT)
    one = call_checked(head, "criterion", build_one_to_one(cfg, head), coders[ONE_TO_ONE])
    return BranchCriterion({ONE_TO_MANY: many, ONE_TO_ONE: one})
