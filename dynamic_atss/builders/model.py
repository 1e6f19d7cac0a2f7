"""Builds the detector from the configuration."""

from __future__ import annotations

import logging

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.builders.backbone import build_backbone
from dynamic_atss.builders.devices import uses_gpu
from dynamic_atss.builders.dual import Coders, build_head_modules
from dynamic_atss.builders.heads import Head, build_head
from dynamic_atss.builders.limits import DTYPES
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.cuda_graphs import record
from dynamic_atss.modeling.detector import Detector

logger = logging.getLogger(__name__)


def build_model(cfg: CfgNode, classes: int, *, losses: bool = True) -> Detector:
    """Builds the detector with its initial weights.

    Args:
        classes: number of classes, without background.
        losses: False builds a detector that only predicts. Rules and losses are neither built nor
            imported, unless the coder of the head has weights, which belong to the criterion.

    Raises:
        UserError: keys of MODEL contradict each other.
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
    _compile(cfg, model)
    return model


def _compile(cfg: CfgNode, model: Detector) -> None:
    """Compiles or records backbone and head in place, which keeps the names of the parameters."""
    if cfg.MODEL.CUDA_GRAPHS and uses_gpu(cfg):
        model.graphs = record((model.backbone, model.head), compiled=cfg.MODEL.COMPILE)
        return
    if cfg.MODEL.CUDA_GRAPHS:
        logger.warning("MODEL.CUDA_GRAPHS True has no effect on a CPU")
    if cfg.MODEL.COMPILE:
        model.backbone.compile()
        model.head.compile()


def _criterion(cfg: CfgNode, head: Head, coders: Coders, losses: bool) -> nn.Module | None:
    has_weights = (isinstance(x, nn.Module) and bool(x.state_dict()) for x in coders.values())
    if not losses and not any(has_weights):
        return None
    from dynamic_atss.builders.criterion import build_criterion

    return build_criterion(cfg, head, coders)
