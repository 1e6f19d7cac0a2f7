"""Checks data sets by name, as configured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from dynamic_atss.builders.data import build_reading
from dynamic_atss.builders.formats import find_formats
from dynamic_atss.builders.heads import HEADS, build_head
from dynamic_atss.builders.survey import RULE, build_matching, rule_not_called
from dynamic_atss.config.code import names_code
from dynamic_atss.data.check.check_all import check_everything
from dynamic_atss.data.check.opening import Opened, open_leniently
from dynamic_atss.data.survey import Finding


def check_data(
    cfg: CfgNode, train: Sequence[str], tests: Sequence[str]
) -> tuple[list[Opened], list[Finding]]:
    """Opens data sets by name and checks all their entries and pictures.

    Raises:
        UserError: a name has no known format, or its files do not exist.
    """
    formats = find_formats("SPEC", [*train, *tests])
    options: dict[str, Any] = {"root": cfg.DATASETS.ROOT, "reading": build_reading(cfg)}
    matching, own_rule = None, names_code(RULE, cfg.MODEL.ASSIGNER.NAME)
    if _has_head(cfg):
        options["convention"] = build_head(cfg).boxes
        matching = None if own_rule else build_matching(cfg)
    first, others = (
        [open_leniently(name, formats, **options) for name in names] for names in (train, tests)
    )
    cap, keep_empty = cfg.TEST.DETECTIONS_PER_IMG, cfg.DATASETS.KEEP_EMPTY
    found = check_everything(first, others, cap, matching, keep_empty)
    found += [rule_not_called(cfg)] if own_rule else []
    return [*first, *others], found


def _has_head(cfg: CfgNode) -> bool:
    """Returns True if the configuration chooses a head. The defaults alone choose none."""
    return bool(cfg.MODEL.HEAD.NAME) or any(cfg.MODEL[f"{name.upper()}_ON"] for name in HEADS)
