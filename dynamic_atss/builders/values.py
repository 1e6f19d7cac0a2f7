"""Checks the values of the configuration before any work starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from typing import Any, TypeVar

import torch
from yacs.config import CfgNode

from dynamic_atss.builders.heads import HEADS, build_head
from dynamic_atss.builders.limits import ACCEPTED, ENTRIES, FIXED, LIMITS, NOT_EMPTY
from dynamic_atss.config.load import known_keys
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import METRICS
from dynamic_atss.quoting import shown

_T = TypeVar("_T")


def check_values(cfg: CfgNode) -> None:
    """Checks that values are supported and do not contradict each other.

    Raises:
        UserError: states the key, the value and the accepted values.
    """
    for key, value, (only, advice) in _each(cfg, FIXED):
        if value != only:
            raise UserError(f"{key} {value!r}: {advice}")
    for key, value, accepted in _each(cfg, ACCEPTED):
        check_accepted(key, value, accepted)
    _check_numbers(cfg)
    for key, value, count in _each(cfg, ENTRIES):
        if len(value) != count:
            raise UserError(f"{key} {value}: give {count} entries")
    for key, value, _ in _each(cfg, dict.fromkeys(NOT_EMPTY)):
        if not value:
            raise UserError(f"{key} {value}: give one number or more")
    for key in ("DATASETS.TRAIN", "DATASETS.TEST", "INPUT.AUGMENTATIONS"):
        if not all(isinstance(name, str) for name in _value(cfg, key)):
            raise UserError(f"{key} {_value(cfg, key)}: give names, as ('name',)")
    _check_order(cfg)
    _check_scales(cfg.TEST.BBOX_AUG.SCALES, cfg.TEST.BBOX_AUG.SCALE_RANGES)
    _check_expected_results(cfg.TEST.EXPECTED_RESULTS)
    _check_watch(cfg.TEST)
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE cuda: torch sees no GPU; set MODEL.DEVICE auto or cpu")
    build_head(cfg).check()


def check_accepted(key: str, value: Any, accepted: Collection[Any]) -> None:
    """Raises UserError unless `value` is one of `accepted`."""
    if value not in accepted:
        hint = "; CUDA_VISIBLE_DEVICES chooses the GPU" if str(value).startswith("cuda:") else ""
        names = ", ".join(str(name) or "''" for name in accepted)
        raise UserError(f"{key} {value!r}: accepted are {names}{hint}")


def _each(cfg: CfgNode, table: Mapping[str, _T]) -> Iterator[tuple[str, Any, _T]]:
    """Yields (complete key, value, entry) for every entry of a table."""
    for name, entry in table.items():
        sections = (
            [f"MODEL.{head.section}" for head in HEADS.values()]
            if name.startswith("HEAD.")
            else [""]
        )
        for section in sections:
            key = name.replace("HEAD", section, 1) if section else name
            if not section or key.rpartition(".")[2] in _value(cfg, section):
                yield key, _value(cfg, key), entry


def _value(cfg: CfgNode, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


def _numbers(value: Any) -> list[float]:
    """Lists the numbers in a value, also those in nested lists and tuples."""
    if isinstance(value, list | tuple):
        return [number for entry in value for number in _numbers(entry)]
    return [value] if isinstance(value, int | float) else []


def _can_be_held(number: float) -> bool:
    return abs(number) < (2**63 if isinstance(number, int) else math.inf)


def _check_numbers(cfg: CfgNode) -> None:
    """Checks the limits of all numbers. NaN fails each comparison."""
    for key in known_keys(cfg):
        if not all(map(_can_be_held, _numbers(_value(cfg, key)))):
            raise UserError(
                f"{key} {shown(_value(cfg, key))}: give finite numbers and 64-bit integers"
            )
    for relation, holds, limits in LIMITS:
        for key, value, limit in _each(cfg, limits):
            if not all(holds(number, limit) for number in _numbers(value)):
                raise UserError(f"{key} {value}: {relation} {limit} is needed")


def _check_order(cfg: CfgNode) -> None:
    low, high = cfg.INPUT.MIN_SIZE_RANGE_TRAIN
    if (low, high) != (-1, -1) and not 1 <= low <= high:
        raise UserError(
            f"INPUT.MIN_SIZE_RANGE_TRAIN {(low, high)}: give (low, high) in pixels, or (-1, -1)"
        )
    for key in ("INPUT.CROP.SIDE", "INPUT.LSJ.SCALE"):
        if list(_value(cfg, key)) != sorted(_value(cfg, key)):
            raise UserError(f"{key} {_value(cfg, key)}: give (low, high)")
    if list(cfg.SOLVER.STEPS) != sorted(cfg.SOLVER.STEPS):
        raise UserError(f"SOLVER.STEPS {cfg.SOLVER.STEPS}: give them in ascending order")


def _check_scales(scales: tuple[Any, ...], ranges: tuple[Any, ...]) -> None:
    """Checks TEST.BBOX_AUG's scales and ranges, also the types of their entries.

    Loading cannot check these types, because the defaults are empty.
    """
    if not all(type(scale) is int for scale in scales):
        raise UserError(f"TEST.BBOX_AUG.SCALES {scales}: give integers, in pixels")
    if not all(map(_is_range, ranges)) or len(ranges) not in (0, len(scales)):
        raise UserError(
            f"TEST.BBOX_AUG.SCALE_RANGES {ranges}: give (low, high) for each of the "
            f"{len(scales)} SCALES, low below high, or () for all sizes"
        )


def _is_range(entry: Any) -> bool:
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        return False
    return all(type(number) in (int, float) for number in entry) and entry[0] < entry[1]


def _check_expected_results(entries: list[Any]) -> None:
    for entry in entries:
        if not _is_expected_result(entry):
            raise UserError(
                f"TEST.EXPECTED_RESULTS {entry}: give ['bbox', metric, mean, deviation] with a "
                f"metric of {', '.join(METRICS)}"
            )


def _check_watch(test: CfgNode) -> None:
    """Checks that BEST_METRIC has tests to compare, and PATIENCE a metric."""
    if test.BEST_METRIC and not test.PERIOD:
        raise UserError(
            f"TEST.BEST_METRIC {test.BEST_METRIC!r}: the training runs no tests to choose from; "
            "set TEST.PERIOD to the iterations between tests"
        )
    if test.PATIENCE and not test.BEST_METRIC:
        raise UserError(
            f"TEST.PATIENCE {test.PATIENCE}: no metric says which test is better; "
            "set TEST.BEST_METRIC, as AP"
        )


def _is_expected_result(entry: Any) -> bool:
    if not isinstance(entry, tuple | list) or len(entry) != 4:
        return False
    task, metric, mean, deviation = entry
    numbers = all(type(number) in (int, float) for number in (mean, deviation))
    return task == "bbox" and metric in METRICS and numbers and deviation >= 0
