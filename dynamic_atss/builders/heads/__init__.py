"""Lists the heads by name and builds the configured one.

To add a head, write one file here and add one line below. A file elsewhere works too: see `Head`.
"""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.builders.heads.atss import ATSSHead
from dynamic_atss.builders.heads.base import Head, HeadModules
from dynamic_atss.builders.heads.check_head import call_checked, check_initialized, check_section
from dynamic_atss.builders.heads.dsla import DSLAHead
from dynamic_atss.builders.heads.fcos import FCOSHead
from dynamic_atss.builders.heads.retinanet import RetinaNetHead
from dynamic_atss.builders.user_code import construct, find, require
from dynamic_atss.errors import UserError

__all__ = ["HEADS", "Head", "HeadModules", "build_head", "head_key"]

HEADS: dict[str, type[Head]] = {
    "atss": ATSSHead,
    "fcos": FCOSHead,
    "retinanet": RetinaNetHead,
    "dsla": DSLAHead,
}
REQUIREMENT = "subclass dynamic_atss.builders.heads.Head, or one of its subclasses"


def build_head(cfg: CfgNode) -> Head:
    """Builds the head of MODEL.HEAD.NAME or, if that is "", of a switch such as MODEL.ATSS_ON.

    Raises:
        UserError: no head or several are chosen, or the head lacks a method.
    """
    name = _name(cfg)
    found = find("MODEL.HEAD.NAME", name, HEADS)
    require("MODEL.HEAD.NAME", name, found, Head, ("priors", "network", "coder"), REQUIREMENT)
    check_section(name, found.section, [head.section for head in HEADS.values()])
    head = construct("MODEL.HEAD.ARGS", name, found, cfg, **cfg.MODEL.HEAD.ARGS)
    check_initialized(head)
    call_checked(head, "priors")  # before the rule, which is checked against the priors
    return head


def head_key(cfg: CfgNode) -> str:
    """Says which key chooses the head: "MODEL.ATSS_ON" or "MODEL.HEAD.NAME atss"."""
    name = cfg.MODEL.HEAD.NAME
    return f"MODEL.HEAD.NAME {name}" if name else f"MODEL.{_name(cfg).upper()}_ON"


def _name(cfg: CfgNode) -> str:
    """Returns MODEL.HEAD.NAME or, if that is "", the head that a switch of the releases sets."""
    if cfg.MODEL.HEAD.NAME:
        return cfg.MODEL.HEAD.NAME
    on = [name for name in HEADS if cfg.MODEL[f"{name.upper()}_ON"]]
    if len(on) == 1:
        return on[0]
    keys = ", ".join(f"MODEL.{name.upper()}_ON" for name in on or HEADS)
    count = "several heads are" if on else "no head is"
    raise UserError(f"{count} switched on: set one of {keys} True, or name one by MODEL.HEAD.NAME")
