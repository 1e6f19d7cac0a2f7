"""What the configuration may hold beyond types: refused here, before any work starts."""

from __future__ import annotations

from collections.abc import Collection

import torch
from yacs.config import CfgNode

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.errors import UserError

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}


def check_config(cfg: CfgNode) -> None:
    """Refuses what no part of this project would carry out.

    Raises:
        UserError: names the key, the value and what is accepted.
    """
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
    one_of("DTYPE", cfg.DTYPE, DTYPES)
    one_of("MODEL.DEVICE", cfg.MODEL.DEVICE, ("auto", "cuda", "cpu"))
    one_of("MODEL.ATSS.REGRESSION_TYPE", cfg.MODEL.ATSS.REGRESSION_TYPE, ("BOX", "POINT"))
    one_of("SOLVER.OPTIMIZER", cfg.SOLVER.OPTIMIZER, ("sgd", "adamw"))
    one_of("SOLVER.SCHEDULE", cfg.SOLVER.SCHEDULE, ("multistep", "cosine"))
    one_of("SOLVER.WARMUP_METHOD", cfg.SOLVER.WARMUP_METHOD, ("linear", "constant"))
    for key in ("MAX_ITER", "IMS_PER_BATCH", "ACCUMULATE", "CHECKPOINT_PERIOD", "LOG_PERIOD"):
        if cfg.SOLVER[key] < 1:
            raise UserError(f"SOLVER.{key} {cfg.SOLVER[key]}: at least 1 is needed")
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE cuda: torch sees no GPU; set MODEL.DEVICE auto or cpu")


def one_of(key: str, value: str, accepted: Collection[str]) -> None:
    """Raises UserError unless `value` is one of `accepted`."""
    if value not in accepted:
        raise UserError(f"{key} {value!r}: accepted are {', '.join(accepted)}")
