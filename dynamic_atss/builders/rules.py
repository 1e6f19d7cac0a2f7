"""cfg -> label assignment rule."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS, Assigner
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.ignore_regions import IgnoreRegions
from dynamic_atss.builders.heads import build_priors, head_name
from dynamic_atss.errors import UserError

# What the published files mean by POSITIVE_TYPE ("": the rule of PUBLISHED) and by a head.
POSITIVE_TYPES = {"ATSS": "", "SSC": "fcos", "IoU": "max_iou", "TOPK": "topk"}
PUBLISHED = {"ATSS": "dynamic_atss", "FCOS": "fcos", "RETINANET": "max_iou", "DSLA": "dsla"}


def build_assigner(cfg: CfgNode) -> Assigner:
    """The rule that MODEL.ASSIGNER.NAME names, with MODEL.ASSIGNER.ARGS.

    NAME is a key of `ASSIGNERS` or "module:Class"; "" is what the published files mean by the head
    that they switch on.

    Raises:
        UserError: unknown names or arguments; a rule that reads what the head does not have.
    """
    name = rule_name(cfg)
    make = _find(name)
    arguments = _published_arguments(cfg, name) | dict(cfg.MODEL.ASSIGNER.ARGS)
    _check_arguments(name, make, arguments)
    try:
        rule = make(**arguments)
    except UserError:
        raise
    except Exception as error:  # whatever the user's class does
        raise UserError(f"MODEL.ASSIGNER.ARGS of {name}: {error}") from error
    _check_protocol(name, rule)
    _check_fit(cfg, name, rule)
    rule = AtLeastOne(rule) if cfg.MODEL.ASSIGNER.AT_LEAST_ONE else rule
    return IgnoreRegions(rule) if cfg.MODEL.ASSIGNER.IGNORE_REGIONS else rule


def rule_name(cfg: CfgNode) -> str:
    """MODEL.ASSIGNER.NAME or, where that is "", what the published files mean."""
    head = head_name(cfg)
    by_type = POSITIVE_TYPES[cfg.MODEL.ATSS.POSITIVE_TYPE] if head == "ATSS" else ""
    return cfg.MODEL.ASSIGNER.NAME or by_type or PUBLISHED[head]


def _published_arguments(cfg: CfgNode, name: str) -> dict[str, Any]:
    """What the sections of the published heads say of their rules."""
    head = head_name(cfg)
    own = cfg.MODEL[head]
    if name == "fcos" and head == "FCOS":
        return {"radius": own.CENTER_SAMPLING_RADIUS}
    if name == "fcos" and head == "ATSS":
        return {"margin": 0.01}
    if name == "dsla" and head == "DSLA":
        factor = own.RELAXATION_FACTOR if own.INTERVAL_RELAXATION else 0.0
        radius = own.CENTER_SAMPLING_RADIUS if own.CENTER_SAMPLING else 0.0
        return {"relaxation": factor, "core_zone": own.CORE_ZONE, "radius": radius}
    if name == "max_iou" and head in ("ATSS", "RETINANET"):
        thresholds = {"positive": own.FG_IOU_THRESHOLD, "negative": own.BG_IOU_THRESHOLD}
        return thresholds | {"inside_only": head == "ATSS"}
    if name in ("dynamic_atss", "atss", "topk") and head == "ATSS":
        return {"topk": own.TOPK}
    return {}


def _find(name: str) -> Any:
    """The class of a rule, by its name or by "module:Class"."""
    if name in ASSIGNERS:
        return ASSIGNERS[name]
    module, colon, attribute = name.rpartition(":")
    if not colon:
        near = difflib.get_close_matches(name, ASSIGNERS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"MODEL.ASSIGNER.NAME {name!r}: the nearest rule is {near!r} of "
            f"{', '.join(ASSIGNERS)}; "
            'your own is "module:Class" or "path/to/file.py:Class"'
        )
    try:
        found = _import(module)
    except Exception as error:  # whatever the user's file does
        raise UserError(
            f"MODEL.ASSIGNER.NAME {name!r}: {module or 'nothing'} cannot be imported from here "
            f"({type(error).__name__}: {error}); give the path of the file, as "
            "path/to/file.py:Class, or put its folder on PYTHONPATH"
        ) from error
    if not callable(getattr(found, attribute, None)):
        classes = [n for n, x in vars(found).items() if inspect.isclass(x)]
        raise UserError(
            f"MODEL.ASSIGNER.NAME {name!r}: {module} has no class {attribute}; it has "
            f"{', '.join(classes) or 'none'}"
        )
    return getattr(found, attribute)


def _import(module: str) -> Any:
    """A module by its dotted name, from the working directory too, or by the path of its file."""
    if not module.endswith(".py"):
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(module)
    name = f"rule_of_{Path(module).resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, module)
    if spec is None or spec.loader is None:
        raise ImportError(module)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return loaded


def _check_arguments(name: str, make: Any, arguments: dict[str, Any]) -> None:
    accepted = inspect.signature(make).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return
    for key in arguments:
        if key not in accepted:
            near = difflib.get_close_matches(key, accepted, n=1, cutoff=0.0)
            hint = f"the nearest is {near[0]!r}" if near else "it takes none"
            raise UserError(f"MODEL.ASSIGNER.ARGS.{key}: {name} has no such argument; {hint}")


def _check_protocol(name: str, rule: Any) -> None:
    missing = [x for x in Assigner.__annotations__ if not hasattr(rule, x)]
    missing += [] if callable(rule) else ["__call__"]
    if missing:
        raise UserError(
            f"MODEL.ASSIGNER.NAME {name!r}: a rule has soft_labels, quality_name, needs_size and "
            f"is called with (priors, gt, predictions); here is no {', '.join(missing)}"
        )


def _check_fit(cfg: CfgNode, name: str, rule: Assigner) -> None:
    """A rule that reads the size of priors needs a head that has anchors."""
    if build_priors(cfg).sized or not rule.needs_size:
        return
    fits = [n for n, known in ASSIGNERS.items() if not known.needs_size]
    raise UserError(
        f"MODEL.ASSIGNER.NAME {name!r} reads the size of anchors, but the head of "
        f"MODEL.{head_name(cfg)}_ON has points, which have none: choose one of {', '.join(fits)}, "
        "or a head with anchors (MODEL.ATSS_ON, MODEL.RETINANET_ON)"
    )
