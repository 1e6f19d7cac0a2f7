"""Checks the configuration before any work starts."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.builders.augment import find_augmentation
from dynamic_atss.builders.backbone import find_custom_body
from dynamic_atss.builders.formats import find_formats
from dynamic_atss.builders.heads import build_head
from dynamic_atss.builders.heads.base import named_box_loss
from dynamic_atss.builders.rules import build_assigner, build_one_to_one
from dynamic_atss.builders.values import check_values


def check_config(cfg: CfgNode) -> None:
    """Checks all values, and all names of rules, heads, transforms and data formats.

    Raises:
        UserError: states the key, the value and the accepted values.
    """
    check_values(cfg)
    _check_names(cfg)


def _check_names(cfg: CfgNode) -> None:
    """Finds and checks every class that is named.

    This comes before the data sets are opened, which may take a minute.
    """
    head = build_head(cfg)
    build_assigner(cfg, head)
    if cfg.MODEL.ONE_TO_ONE.NAME:
        build_one_to_one(cfg, head)
    if cfg.MODEL.BOX_LOSS:
        named_box_loss(cfg.MODEL.BOX_LOSS)
    find_custom_body(cfg)
    for name in cfg.INPUT.AUGMENTATIONS:
        find_augmentation(name)
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        find_formats(key, cfg.DATASETS[key.rpartition(".")[2]])
