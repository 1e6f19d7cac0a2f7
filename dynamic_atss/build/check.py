"""What the configuration may hold beyond types: refused here, before any work starts."""

from __future__ import annotations

from collections.abc import Collection
from functools import reduce
from typing import Any

import torch
from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.errors import UserError
from dynamic_atss.evaluation.scores import METRICS

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}

ACCEPTED: dict[str, Collection[str]] = {
    "DTYPE": DTYPES,
    "MODEL.DEVICE": ("auto", "cuda", "cpu"),
    "MODEL.ATSS.REGRESSION_TYPE": ("BOX", "POINT"),
    "SOLVER.OPTIMIZER": ("sgd", "adamw"),
    "SOLVER.SCHEDULE": ("multistep", "cosine"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
}

AT_LEAST = {
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.SIZE_DIVISIBILITY": 0,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "INPUT.MIN_SIZE_TEST": 1,
    "INPUT.MAX_SIZE_TEST": 1,
    "MODEL.ATSS.NUM_CONVS": 0,
    "MODEL.ATSS.TOPK": 1,
    "MODEL.ATSS.SCALES_PER_OCTAVE": 1,
    "MODEL.ATSS.PRE_NMS_TOP_N": 1,
    "MODEL.RESNETS.BACKBONE_OUT_CHANNELS": 1,
    "MODEL.RESNETS.DEFORMABLE_GROUPS": 1,
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.ACCUMULATE": 1,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.CLIP_GRAD_NORM": 0,
    "TEST.IMS_PER_BATCH": 1,
    "TEST.DETECTIONS_PER_IMG": 1,
    "TEST.PERIOD": 0,
}

WITHIN = {
    "INPUT.FLIP_PROB_TRAIN": (0, 1),
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": (0, 1),
    "MODEL.ATSS.PRIOR_PROB": (1e-6, 1 - 1e-6),  # its logit is a bias
    "SOLVER.EMA_DECAY": (0, 1),
}

POSITIVE = (  # entries of tuples
    "INPUT.MIN_SIZE_TRAIN",
    "INPUT.PIXEL_STD",
    "MODEL.ATSS.ANCHOR_SIZES",
    "MODEL.ATSS.ANCHOR_STRIDES",
    "MODEL.ATSS.ASPECT_RATIOS",
)

ENTRIES = {
    "INPUT.MIN_SIZE_RANGE_TRAIN": 2,
    "INPUT.PIXEL_MEAN": 3,
    "INPUT.PIXEL_STD": 3,
    "MODEL.RESNETS.STAGE_WITH_DCN": 4,
    "MODEL.ATSS.ANCHOR_SIZES": 5,
    "MODEL.ATSS.ANCHOR_STRIDES": 5,
}


def check_config(cfg: CfgNode) -> None:
    """Refuses what no part of this project would carry out.

    Raises:
        UserError: names the key, the value and what is accepted.
    """
    _check_carried(cfg)
    for key, accepted in ACCEPTED.items():
        one_of(key, _value(cfg, key), accepted)
    for key, least in AT_LEAST.items():
        if _value(cfg, key) < least:
            raise UserError(f"{key} {_value(cfg, key)}: at least {least} is needed")
    for key, count in ENTRIES.items():
        if len(_value(cfg, key)) != count:
            raise UserError(f"{key} {_value(cfg, key)}: {count} entries are needed")
    for key in POSITIVE:
        if not _value(cfg, key) or min(_value(cfg, key)) <= 0:
            raise UserError(f"{key} {_value(cfg, key)}: one number or more above 0 is needed")
    for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
        if not all(isinstance(name, str) for name in _value(cfg, key)):
            raise UserError(f"{key} {_value(cfg, key)}: give names, as ('name',)")
    _check_order(cfg)
    _check_expected_results(cfg.TEST.EXPECTED_RESULTS)
    if not 0 <= cfg.SOLVER.EMA_DECAY < 1:
        raise UserError(
            f"SOLVER.EMA_DECAY {cfg.SOLVER.EMA_DECAY}: at least 0 and below 1 is needed"
        )
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE cuda: torch sees no GPU; set MODEL.DEVICE auto or cpu")


def one_of(key: str, value: str, accepted: Collection[str]) -> None:
    """Raises UserError unless `value` is one of `accepted`."""
    if value not in accepted:
        raise UserError(f"{key} {value!r}: accepted are {', '.join(accepted)}")


def _value(cfg: CfgNode, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)


def _check_carried(cfg: CfgNode) -> None:
    """What the releases have and this project does not."""
    for key in ("MASK_ON", "KEYPOINT_ON", "FCOS_ON", "RETINANET_ON"):
        if cfg.MODEL[key]:
            raise UserError(f"MODEL.{key} True: there is no such head; set MODEL.ATSS_ON True")
    if cfg.TEST.BBOX_AUG.ENABLED:
        raise UserError("TEST.BBOX_AUG.ENABLED True: there is no test-time augmentation; set False")
    if cfg.MODEL.ATSS.POSITIVE_TYPE != "ATSS":
        raise UserError(
            f"MODEL.ATSS.POSITIVE_TYPE {cfg.MODEL.ATSS.POSITIVE_TYPE!r}: the rule is chosen by "
            f"MODEL.ASSIGNER.NAME, one of {', '.join(ASSIGNERS)}"
        )


def _check_order(cfg: CfgNode) -> None:
    low, high = cfg.INPUT.MIN_SIZE_RANGE_TRAIN
    if (low, high) != (-1, -1) and not 1 <= low <= high:
        raise UserError(
            f"INPUT.MIN_SIZE_RANGE_TRAIN {(low, high)}: give (low, high) in pixels, or (-1, -1)"
        )
    if list(cfg.SOLVER.STEPS) != sorted(cfg.SOLVER.STEPS):
        raise UserError(f"SOLVER.STEPS {cfg.SOLVER.STEPS}: give them in ascending order")


def _check_expected_results(entries: list[Any]) -> None:
    for entry in entries:
        if not (isinstance(entry, tuple | list) and len(entry) == 4 and entry[1] in METRICS):
            raise UserError(
                f"TEST.EXPECTED_RESULTS {entry}: give ['bbox', metric, mean, deviation] with a "
                f"metric of {', '.join(METRICS)}"
            )
