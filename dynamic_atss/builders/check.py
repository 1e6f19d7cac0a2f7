"""What the configuration may hold beyond types: refused here, before any work starts."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from typing import Any, TypeVar

import torch
from yacs.config import CfgNode

from dynamic_atss.builders.heads import HEADS, head_name
from dynamic_atss.builders.rules import POSITIVE_TYPES
from dynamic_atss.config.load import known_keys
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import METRICS
from dynamic_atss.modeling.criterion import CLASS_LOSSES

_T = TypeVar("_T")
DTYPES = {"float32": None, "bfloat16": torch.bfloat16}

# HEAD stands for the section of each head that has the key.
ACCEPTED: dict[str, Collection[str]] = {
    "DTYPE": DTYPES,
    "MODEL.DEVICE": ("auto", "cuda", "cpu"),
    "MODEL.ATSS.REGRESSION_TYPE": ("BOX", "POINT"),
    "MODEL.ATSS.POSITIVE_TYPE": POSITIVE_TYPES,
    "MODEL.CLASS_LOSS": ("", *CLASS_LOSSES),
    "MODEL.CLASS_LOSS_DIVISOR": ("", "positives", "labels"),
    "HEAD.IOU_LOSS_TYPE": ("iou", "linear_iou", "giou"),
    "SOLVER.OPTIMIZER": ("sgd", "adamw"),
    "SOLVER.SCHEDULE": ("multistep", "cosine"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "TEST.BBOX_AUG.MERGE_TYPE": ("vote", "soft-vote", "nms"),
}

# What the releases have and this project does not: the one value that is carried out, and the mend.
NO_HEAD = "there is no such head; set False"
STRIDES = "the levels have 8, 16, 32, 64 and 128"
NO_FUNC = "the norm is chosen by MODEL.RESNETS.NORM (group norm: GN); leave this key out"
NO_GROUPS = "group norm has 32 groups and an epsilon of 1e-5; leave this key out"
CARRIED = {
    "MODEL.MASK_ON": (False, NO_HEAD),
    "MODEL.KEYPOINT_ON": (False, NO_HEAD),
    "HEAD.ANCHOR_STRIDES": ((8, 16, 32, 64, 128), STRIDES),
    "HEAD.FPN_STRIDES": ([8, 16, 32, 64, 128], STRIDES),
    "MODEL.GROUP_NORM.DIM_PER_GP": (-1, NO_GROUPS),
    "MODEL.GROUP_NORM.NUM_GROUPS": (32, NO_GROUPS),
    "MODEL.GROUP_NORM.EPSILON": (1e-5, NO_GROUPS),
    "MODEL.RESNETS.TRANS_FUNC": ("BottleneckWithFixedBatchNorm", NO_FUNC),
    "MODEL.RESNETS.STEM_FUNC": ("StemWithFixedBatchNorm", NO_FUNC),
    "MODEL.RESNETS.RES5_DILATION": (1, "there is no dilated stage; set 1"),
}

# Of tuples: every entry.
AT_LEAST = {
    "SEED": 0,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.REPEAT_FACTOR_THRESHOLD": 0,
    "DATALOADER.SIZE_DIVISIBILITY": 0,
    "INPUT.FLIP_PROB_TRAIN": 0,
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": 0,
    "INPUT.BRIGHTNESS": 0,
    "INPUT.CONTRAST": 0,
    "INPUT.SATURATION": 0,
    "INPUT.HUE": 0,
    "INPUT.MIN_VISIBLE": 0,
    "INPUT.CROP.PROB": 0,
    "INPUT.LSJ.SIZE": 1,
    "INPUT.MOSAIC.PROB": 0,
    "INPUT.MOSAIC.OFF_AT_END": 0,
    "INPUT.MIN_SIZE_TRAIN": 1,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "INPUT.MIN_SIZE_TEST": 1,
    "INPUT.MAX_SIZE_TEST": 1,
    "HEAD.ASPECT_RATIOS": 0.01,  # further off, a side is rounded to 0
    "HEAD.INFERENCE_TH": 0,
    "HEAD.LOSS_ALPHA": 0,
    "HEAD.LOSS_GAMMA": 0,
    "HEAD.NMS_TH": 0,
    "HEAD.NUM_CLASSES": 2,
    "HEAD.NUM_CONVS": 0,
    "HEAD.OCTAVE": 1,
    "HEAD.PRE_NMS_TOP_N": 1,
    "HEAD.PRIOR_PROB": 1e-6,  # its logit is a bias
    "HEAD.BBOX_REG_BETA": 0,
    "HEAD.BG_IOU_THRESHOLD": 0,
    "HEAD.CENTER_SAMPLING_RADIUS": 0,
    "HEAD.CLS_LOSS_WEIGHT": 0,
    "HEAD.FG_IOU_THRESHOLD": 0,
    "HEAD.REG_LOSS_WEIGHT": 0,
    "HEAD.RELAXATION_FACTOR": 0,
    "HEAD.SCALES_PER_OCTAVE": 1,
    "MODEL.ATSS.TOPK": 1,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 1,
    "MODEL.RESNETS.DEFORMABLE_GROUPS": 1,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 1,
    "SOLVER.ACCUMULATE": 1,
    "SOLVER.BIAS_LR_FACTOR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.CLIP_GRAD_NORM": 0,
    "SOLVER.DCONV_OFFSETS_LR_FACTOR": 0,
    "SOLVER.EMA_DECAY": 0,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.MOMENTUM": 0,
    "SOLVER.STEPS": 0,
    "SOLVER.WARMUP_FACTOR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "SOLVER.WEIGHT_DECAY_BIAS": 0,
    "SOLVER.WEIGHT_DECAY_NORM": -1,
    "MODEL.SWIN.DROP_PATH": -1,
    "TEST.BBOX_AUG.MAX_SIZE": 1,
    "TEST.BBOX_AUG.SCALES": 1,
    "TEST.BBOX_AUG.SCALE_RANGES": 0,
    "TEST.DETECTIONS_PER_IMG": 1,
    "TEST.EXPECTED_RESULTS_SIGMA_TOL": 0,
    "TEST.IMS_PER_BATCH": 1,
    "TEST.PERIOD": 0,
}

ABOVE = {
    "INPUT.CROP.SIDE": 0,
    "INPUT.LSJ.SCALE": 0,
    "INPUT.PIXEL_STD": 0,
    "HEAD.ANCHOR_SIZES": 0,
    "HEAD.BBOX_REG_WEIGHT": 0,
    "SOLVER.BASE_LR": 0,
    "SOLVER.GAMMA": 0,
    "TEST.BBOX_AUG.VOTE_TH": 0,
}

AT_MOST = {
    "DATALOADER.NUM_WORKERS": 1000,
    "DATALOADER.REPEAT_FACTOR_THRESHOLD": 1,
    "DATALOADER.SIZE_DIVISIBILITY": 10_000,
    "INPUT.FLIP_PROB_TRAIN": 1,
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": 1,
    "INPUT.BRIGHTNESS": 10,
    "INPUT.CONTRAST": 10,
    "INPUT.SATURATION": 10,
    "INPUT.HUE": 0.5,
    "INPUT.MIN_VISIBLE": 1,
    "INPUT.CROP.PROB": 1,
    "INPUT.CROP.SIDE": 1,
    "INPUT.LSJ.SIZE": 10_000,
    "INPUT.LSJ.SCALE": 10,
    "INPUT.MOSAIC.PROB": 1,
    "INPUT.MOSAIC.OFF_AT_END": 1,
    "INPUT.MAX_SIZE_TRAIN": 100_000,
    "INPUT.MAX_SIZE_TEST": 100_000,
    "HEAD.ASPECT_RATIOS": 100,
    "HEAD.FG_IOU_THRESHOLD": 1,
    "HEAD.LOSS_ALPHA": 1,
    "HEAD.NMS_TH": 1,
    "HEAD.NUM_CONVS": 100,
    "HEAD.PRIOR_PROB": 1 - 1e-6,
    "HEAD.SCALES_PER_OCTAVE": 100,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 16_384,
    "MODEL.RESNETS.NUM_GROUPS": 16_384,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 16_384,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16_384,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 16_384,
    "SOLVER.GAMMA": 1,
    "SOLVER.WARMUP_FACTOR": 1,
    "SOLVER.WEIGHT_DECAY": 1,
    "SOLVER.WEIGHT_DECAY_BIAS": 1,
    "SOLVER.WEIGHT_DECAY_NORM": 1,
    "TEST.BBOX_AUG.MAX_SIZE": 100_000,
    "TEST.BBOX_AUG.SCALES": 100_000,
    "TEST.BBOX_AUG.VOTE_TH": 1,
}

BELOW = {
    "MODEL.SWIN.DROP_PATH": 1,
    "HEAD.INFERENCE_TH": 1,
    "HEAD.RELAXATION_FACTOR": 1,
    "SOLVER.EMA_DECAY": 1,
    "SOLVER.MOMENTUM": 1,
}

LIMITS = (
    ("at least", operator.ge, AT_LEAST),
    ("above", operator.gt, ABOVE),
    ("at most", operator.le, AT_MOST),
    ("below", operator.lt, BELOW),
)

ENTRIES = {
    "INPUT.MIN_SIZE_RANGE_TRAIN": 2,
    "INPUT.CROP.SIDE": 2,
    "INPUT.LSJ.SIZE": 2,
    "INPUT.LSJ.SCALE": 2,
    "INPUT.PIXEL_MEAN": 3,
    "INPUT.PIXEL_STD": 3,
    "MODEL.RESNETS.STAGE_WITH_DCN": 4,
    "HEAD.ANCHOR_SIZES": 5,
}

NOT_EMPTY = ("INPUT.MIN_SIZE_TRAIN", "HEAD.ASPECT_RATIOS")


def check_config(cfg: CfgNode) -> None:
    """Refuses what no part of this project would carry out.

    Raises:
        UserError: names the key, the value and what is accepted.
    """
    for key, value, (carried, mend) in _each(cfg, CARRIED):
        if value != carried:
            raise UserError(f"{key} {value!r}: {mend}")
    for key, value, accepted in _each(cfg, ACCEPTED):
        one_of(key, value, accepted)
    _check_numbers(cfg)
    for key, value, count in _each(cfg, ENTRIES):
        if len(value) != count:
            raise UserError(f"{key} {value}: {count} entries are needed")
    for key, value, _ in _each(cfg, dict.fromkeys(NOT_EMPTY)):
        if not value:
            raise UserError(f"{key} {value}: one number or more is needed")
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        if not all(isinstance(name, str) for name in _value(cfg, key)):
            raise UserError(f"{key} {_value(cfg, key)}: give names, as ('name',)")
    head_name(cfg)
    _check_order(cfg)
    _check_scales(cfg.TEST.BBOX_AUG.SCALES, cfg.TEST.BBOX_AUG.SCALE_RANGES)
    _check_expected_results(cfg.TEST.EXPECTED_RESULTS)
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE cuda: torch sees no GPU; set MODEL.DEVICE auto or cpu")


def one_of(key: str, value: str, accepted: Collection[str]) -> None:
    """Raises UserError unless `value` is one of `accepted`."""
    if value not in accepted:
        hint = "; CUDA_VISIBLE_DEVICES chooses the GPU" if value.startswith("cuda:") else ""
        raise UserError(f"{key} {value!r}: accepted are {', '.join(accepted)}{hint}")


def _each(cfg: CfgNode, table: Mapping[str, _T]) -> Iterator[tuple[str, Any, _T]]:
    """(full key, value, entry) for every entry of a table."""
    for name, entry in table.items():
        sections = [f"MODEL.{head}" for head in HEADS] if name.startswith("HEAD.") else [""]
        for section in sections:
            key = name.replace("HEAD", section, 1) if section else name
            if not section or key.rpartition(".")[2] in _value(cfg, section):
                yield key, _value(cfg, key), entry


def _value(cfg: CfgNode, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


def _numbers(value: Any) -> list[float]:
    """The numbers in a value, those in lists and tuples included."""
    if isinstance(value, list | tuple):
        return [number for entry in value for number in _numbers(entry)]
    return [value] if isinstance(value, int | float) else []


def _can_be_held(number: float) -> bool:
    return abs(number) < (2**63 if isinstance(number, int) else math.inf)


def _check_numbers(cfg: CfgNode) -> None:
    """The comparisons are such that NaN fails."""
    for key in known_keys(cfg):
        if not all(map(_can_be_held, _numbers(_value(cfg, key)))):
            raise UserError(
                f"{key} {_value(cfg, key)}: finite numbers and integers of 64 bits are needed"
            )
    for words, holds, limits in LIMITS:
        for key, value, limit in _each(cfg, limits):
            if not all(holds(number, limit) for number in _numbers(value)):
                raise UserError(f"{key} {value}: {words} {limit} is needed")


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
    """The defaults are empty, so that the types of the entries are not checked yet."""
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


def _is_expected_result(entry: Any) -> bool:
    if not isinstance(entry, tuple | list) or len(entry) != 4:
        return False
    task, metric, mean, deviation = entry
    numbers = all(type(number) in (int, float) for number in (mean, deviation))
    return task == "bbox" and metric in METRICS and numbers and deviation >= 0
