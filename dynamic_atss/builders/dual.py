"""Builds the modules of a head, with the second branch of MODEL.ONE_TO_ONE if it is on."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.builders.heads import Head, HeadModules
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder
from dynamic_atss.modeling.dual import ONE_TO_MANY, ONE_TO_ONE, Dual
from dynamic_atss.modeling.postprocess import PostProcess

ONE_OUTPUT = (
    "MODEL.ONE_TO_ONE.NAME: makes two branches of a head, but this head already has branches or a "
    "custom post-processing; leave the key out, or choose another MODEL.HEAD.NAME"
)

Coders = dict[str | None, Coder]  # by branch; the key is None for a head without branches


def build_head_modules(
    cfg: CfgNode, head: Head, channels: int, classes: int
) -> tuple[HeadModules, Coders]:
    """Builds the modules of `head`, and the coder of each branch.

    MODEL.ONE_TO_ONE.NAME builds the head twice, so each branch has separate weights and coders.

    Raises:
        UserError: as `Head.build`. With MODEL.ONE_TO_ONE.NAME, also if the head already has
            branches.
    """
    many = head.build(channels, classes)
    if not cfg.MODEL.ONE_TO_ONE.NAME:
        return many, {None: many.coder}
    process = many.postprocess
    if not isinstance(process, PostProcess) or process.branch is not None:
        raise UserError(ONE_OUTPUT)
    one = head.build(channels, classes)
    predicting = one if cfg.MODEL.ONE_TO_ONE.PREDICTS else many
    postprocess = predicting.postprocess
    postprocess.branch = ONE_TO_ONE if predicting is one else ONE_TO_MANY
    postprocess.nms = postprocess.nms and predicting is many
    network = Dual(many.network, one.network, postprocess.branch)
    coders: Coders = {ONE_TO_MANY: many.coder, ONE_TO_ONE: one.coder}
    return HeadModules(network, many.priors, predicting.coder, postprocess), coders
