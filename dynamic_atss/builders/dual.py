"""cfg and head -> the parts of a detector, with MODEL.ONE_TO_ONE's second branch or without."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.assigners import Assigner
from dynamic_atss.assigners.after import After
from dynamic_atss.builders.heads import Head, Parts
from dynamic_atss.builders.rules import build_assigner, build_one_to_one, one_to_one_start
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.branches import BranchCriterion
from dynamic_atss.modeling.dual import ONE_TO_MANY, ONE_TO_ONE, Dual
from dynamic_atss.modeling.postprocess import PostProcess


def build_parts(cfg: CfgNode, head: Head, channels: int, classes: int) -> Parts:
    """As `Head.build`. With MODEL.ONE_TO_ONE.NAME the head is built twice: each branch has its own
    weights, coder, criterion and rule.

    Raises:
        UserError: as `Head.build`; for a head of the user's that has branches already.
    """
    rule = build_assigner(cfg, head)
    many = head.build(rule, channels, classes)
    if not cfg.MODEL.ONE_TO_ONE.NAME:
        return many
    one = head.build(_second_rule(cfg, head, rule), channels, classes)
    _check_plain(many)
    predicts = cfg.MODEL.ONE_TO_ONE.PREDICTS
    process = one.postprocess if predicts else many.postprocess
    process.branch = ONE_TO_ONE if predicts else ONE_TO_MANY
    process.nms = process.nms and not predicts
    return Parts(
        Dual(many.head, one.head, process.branch),
        many.priors,
        BranchCriterion({ONE_TO_MANY: many.criterion, ONE_TO_ONE: one.criterion}),
        process,
    )


def _second_rule(cfg: CfgNode, head: Head, first: Assigner) -> Assigner:
    """That of MODEL.ONE_TO_ONE, after `first` if it does not begin at once."""
    rule, start = build_one_to_one(cfg, head), one_to_one_start(cfg)
    return After(rule, first, start) if start else rule


def _check_plain(parts: Parts) -> None:
    """Raises UserError for a head that cannot be one branch of two."""
    process = parts.postprocess
    plain = isinstance(process, PostProcess) and process.branch is None
    if isinstance(parts.criterion, BranchCriterion) or not plain:
        raise UserError(
            "MODEL.ONE_TO_ONE.NAME: makes two branches of a head, but this one has branches or a "
            "post-processing of its own; leave the key out, or choose another MODEL.HEAD.NAME"
        )
