"""Builds every part of a run from the configuration. No other package reads or keeps `cfg`.

A module is imported when one of its names is first used, so a prediction imports no data sets.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamic_atss.builders.backbone import build_backbone
    from dynamic_atss.builders.check import check_config
    from dynamic_atss.builders.data import (
        build_test_loaders,
        build_train_dataset,
        build_train_loader,
        check_num_classes,
        images_per_epoch,
    )
    from dynamic_atss.builders.heads import build_head
    from dynamic_atss.builders.model import build_model
    from dynamic_atss.builders.rules import build_assigner
    from dynamic_atss.builders.solver import build_lr_factor, build_optimizer, long_warmup
    from dynamic_atss.builders.tta import build_test_model

__all__ = [
    "build_assigner",
    "build_backbone",
    "build_head",
    "build_lr_factor",
    "build_model",
    "build_optimizer",
    "build_test_loaders",
    "build_test_model",
    "build_train_dataset",
    "build_train_loader",
    "check_config",
    "check_num_classes",
    "images_per_epoch",
    "long_warmup",
]

_MODULES = {
    "backbone": ("build_backbone",),
    "check": ("check_config",),
    "data": (
        "build_test_loaders",
        "build_train_dataset",
        "build_train_loader",
        "check_num_classes",
        "images_per_epoch",
    ),
    "heads": ("build_head",),
    "model": ("build_model",),
    "rules": ("build_assigner",),
    "solver": ("build_lr_factor", "build_optimizer", "long_warmup"),
    "tta": ("build_test_model",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
