"""The heads by name, and which of them a configuration means. A new head is one file here and one
line below, or a file anywhere: see `Head`."""

from __future__ import annotations

from yacs.config import CfgNode

from dynamic_atss.builders.heads.atss import ATSSHead
from dynamic_atss.builders.heads.base import Head, HeadModules
from dynamic_atss.builders.heads.dsla import DSLAHead
from dynamic_atss.builders.heads.fcos import FCOSHead
from dynamic_atss.builders.heads.fit import ask, check_made, check_section
from dynamic_atss.builders.heads.retinanet import RetinaNetHead
from dynamic_atss.builders.outside import construct, find, require
from dynamic_atss.errors import UserError

__all__ = ["HEADS", "Head", "HeadModules", "build_head", "head_key"]

HEADS: dict[str, type[Head]] = {
    "atss": ATSSHead,
    "fcos": FCOSHead,
    "retinanet": RetinaNetHead,
    "dsla": DSLAHead,
}
FITS = "subclass dynamic_atss.builders.heads.Head, or one of its subclasses"


def build_head(cfg: CfgNode) -> Head:
    """The head that MODEL.HEAD.NAME names or, where that is "", a switch such as MODEL.ATSS_ON.

    Raises:
        UserError: there is none, or several, or it does not fit.
    """
    name = _name(cfg)
    found = find("MODEL.HEAD.NAME", name, HEADS)
    require("MODEL.HEAD.NAME", name, found, Head, ("priors", "network", "coder"), FITS)
    check_section(name, found.section, [head.section for head in HEADS.values()])
    head = construct("MODEL.HEAD.ARGS", name, found, cfg, **cfg.MODEL.HEAD.ARGS)
    check_made(head)
    ask(head, "priors")  # before the rule, which is compared with them
    return head


def head_key(cfg: CfgNode) -> str:
    """What of the configuration chooses the head: "MODEL.ATSS_ON" or "MODEL.HEAD.NAME atss"."""
    name = cfg.MODEL.HEAD.NAME
    return f"MODEL.HEAD.NAME {name}" if name else f"MODEL.{_name(cfg).upper()}_ON"


def _name(cfg: CfgNode) -> str:
    """MODEL.HEAD.NAME or, where that is "", the head that a switch of the releases turns on."""
    if cfg.MODEL.HEAD.NAME:
        return cfg.MODEL.HEAD.NAME
    on = [name for name in HEADS if cfg.MODEL[f"{name.upper()}_ON"]]
    if len(on) == 1:
        return on[0]
    keys = ", ".join(f"MODEL.{name.upper()}_ON" for name in on or HEADS)
    what = "several heads are" if on else "no head is"
    raise UserError(f"{what} switched on: set one of {keys} True, or name one by MODEL.HEAD.NAME")
