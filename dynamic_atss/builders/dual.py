"""Configuration and head -> the modules of a detector, with or without MODEL.ONE_TO_ONE's second
branch."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.builders.heads import Head, HeadModules
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder
from dynamic_atss.modeling.dual import ONE_TO_MANY, ONE_TO_ONE, Dual
from dynamic_atss.modeling.postprocess import PostProcess

ONE_OUTPUT = (
    "MODEL.ONE_TO_ONE.NAME: makes two branches of a head, but this one has branches or a "
    "post-processing of its own; leave the key out, or choose another MODEL.HEAD.NAME"
)

Coders = dict[str | None, Coder]  # by branch; None: the head has none


def build_head_modules(
    cfg: CfgNode, head: Head, channels: int, classes: int
) -> tuple[HeadModules, Coders]:
    """Makes the modules of `head`, and the coder of each branch.

    With MODEL.ONE_TO_ONE.NAME the head is built twice: each branch has its own weights and coder.

    Raises:
        UserError: as `Head.build`; with MODEL.ONE_TO_ONE.NAME, a head that already has branches.
    """
    many = head.build(channels, classes)
    if not cfg.MODEL.ONE_TO_ONE.NAME:
        return many, {None: many.coder}
    process = many.postprocess
    if not isinstance(process, PostProcess) or process.branch is not None:
        raise UserError(ONE_OUTPUT)
    one = head.build(channels, classes)
    read = one if cfg.MODEL.ONE_TO_ONE.PREDICTS else many
    read.postprocess.branch = ONE_TO_ONE if read is one else ONE_TO_MANY
    read.postprocess.nms = read.postprocess.nms and read is many
    network = Dual(many.network, one.network, read.postprocess.branch)
    coders: Coders = {ONE_TO_MANY: many.coder, ONE_TO_ONE: one.coder}
    return HeadModules(network, many.priors, read.coder, read.postprocess), coders
