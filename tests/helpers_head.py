"""Builds a head with its criterion, without a backbone."""

from types import SimpleNamespace

from dynamic_atss.builders import build_head
from dynamic_atss.builders.criterion import build_criterion
from dynamic_atss.builders.dual import build_head_modules


def build_parts(cfg, channels, classes):
    """Builds network, priors, coder, postprocess and criterion of the head that `cfg` names."""
    head = build_head(cfg)
    modules, coders = build_head_modules(cfg, head, channels, classes)
    return SimpleNamespace(**modules._asdict(), criterion=build_criterion(cfg, head, coders))
