"""Configuration -> detector."""

from __future__ import annotations

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.builders.backbone import build_backbone
from dynamic_atss.builders.dual import Coders, build_head_modules
from dynamic_atss.builders.heads import Head, build_head
from dynamic_atss.builders.limits import DTYPES
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector


def build_model(cfg: CfgNode, classes: int, *, losses: bool = True) -> Detector:
    """Makes the detector with its initial weights.

    Args:
        classes: how many there are, without background.
        losses: False makes a detector that only predicts. Rules and losses are neither made nor
            imported, unless the coder of the head has weights, which belong to the criterion.

    Raises:
        UserError: parts of MODEL that do not fit each other.
    """
    head = build_head(cfg)
    backbone = build_backbone(cfg)
    try:
        modules, coders = build_head_modules(cfg, head, backbone.out_channels, classes)
        criterion = _criterion(cfg, head, coders, losses)
    except ValueError as error:
        raise UserError(f"configuration of MODEL: {error}") from error
    model = Detector(
        backbone,
        modules.network,
        modules.priors,
        criterion,
        modules.postprocess,
        pixel_mean=cfg.INPUT.PIXEL_MEAN,
        pixel_std=cfg.INPUT.PIXEL_STD,
        bgr255=cfg.INPUT.TO_BGR255,
        autocast=DTYPES[cfg.DTYPE],
        channels_last=cfg.MODEL.CHANNELS_LAST,
        parts=cfg.SOLVER.ACCUMULATE,
    )
    if cfg.MODEL.COMPILE:  # in place: the names of the parameters stay as they are
        model.backbone.compile()
        model.head.compile()
    return model


def _criterion(cfg: CfgNode, head: Head, coders: Coders, losses: bool) -> nn.Module | None:
    with_weights = (x for x in coders.values() if isinstance(x, nn.Module) and x.state_dict())
    if not losses and not any(with_weights):
        return None
    from dynamic_atss.builders.criterion import build_criterion

    return build_criterion(cfg, head, coders)
