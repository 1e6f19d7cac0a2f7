"""Lists the accepted values of configuration keys. `dynamic_atss.builders.values` checks them.

HEAD stands for the section of each head that has the key.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch

from dynamic_atss.builders.heads.atss import POSITIVE_TYPES
from dynamic_atss.data.orientation import EXIF
from dynamic_atss.evaluation.scores import METRICS, VOC_METRICS
from dynamic_atss.modeling.layers import NORMS

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}

ACCEPTED: dict[str, Collection[Any]] = {
    "DTYPE": DTYPES,
    "MODEL.DEVICE": ("auto", "cuda", "cpu"),
    "MODEL.ATSS.REGRESSION_TYPE": ("BOX", "POINT", "DISTRIBUTION"),
    "MODEL.ATSS.BOX_WEIGHT": ("quality", "score"),
    "MODEL.ATSS.POSITIVE_TYPE": POSITIVE_TYPES,
    "MODEL.CLASS_LOSS": ("", "focal", "quality_focal", "varifocal", "soft_focal"),
    "MODEL.CLASS_LOSS_DIVISOR": ("", "positives", "labels"),
    "MODEL.RESNETS.NORM": ("", *NORMS),
    "HEAD.IOU_LOSS_TYPE": ("iou", "linear_iou", "giou"),
    "INPUT.BITS": (0, *range(8, 17)),
    "INPUT.EXIF": EXIF,
    "SOLVER.NOT_FINITE": ("stop", "skip", "rewind"),
    "SOLVER.OPTIMIZER": ("sgd", "adamw"),
    "SOLVER.SCHEDULE": ("multistep", "cosine"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "TEST.BEST_METRIC": ("", *METRICS, *VOC_METRICS),
    "TEST.BBOX_AUG.MERGE_TYPE": ("vote", "soft-vote", "nms"),
}

# Features of the releases that are not supported: key -> (the only accepted value, advice).
NO_HEAD = "there is no such head; set False"
STRIDES = "the levels have 8, 16, 32, 64 and 128"
NO_FUNC = "MODEL.RESNETS.NORM chooses the norm (group norm: GN); leave this key out"
NO_GROUPS = "group norm has 32 groups and an epsilon of 1e-5; leave this key out"
FIXED = {
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

# The limits of a tuple apply to each of its entries.
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
    "INPUT.MAX_PIXELS": 1,
    "INPUT.MIN_SIZE_TRAIN": 1,
    "INPUT.MAX_SIZE_TRAIN": 1,
    "INPUT.MIN_SIZE_TEST": 1,
    "INPUT.MAX_SIZE_TEST": 1,
    "MODEL.ATSS.REG_MAX": 1,
    "MODEL.ATSS.DFL_WEIGHT": 0,
    "HEAD.ASPECT_RATIOS": 0.01,  # below it, a side would round to 0
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
    "HEAD.QUALITY_LOSS_WEIGHT": 0,
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
    "SOLVER.KEEP_CHECKPOINTS": 0,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.MOMENTUM": 0,
    "SOLVER.NOT_FINITE_LIMIT": 1,
    "SOLVER.PICTURE_PERIOD": 0,
    "SOLVER.STEPS": 0,
    "SOLVER.TIMEOUT": 1,
    "SOLVER.WARMUP_FACTOR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "SOLVER.WEIGHT_DECAY_BIAS": 0,
    "SOLVER.NORM_BIAS_LR_FACTOR": -1,
    "SOLVER.WEIGHT_DECAY_NORM": -1,
    "MODEL.SWIN.DROP_PATH": -1,
    "TEST.BBOX_AUG.MAX_SIZE": 1,
    "TEST.BBOX_AUG.SCALES": 1,
    "TEST.BBOX_AUG.SCALE_RANGES": 0,
    "TEST.DETECTIONS_PER_IMG": 1,
    "TEST.EXPECTED_RESULTS_SIGMA_TOL": 0,
    "TEST.IMS_PER_BATCH": 1,
    "TEST.PATIENCE": 0,
    "TEST.PERIOD": 0,
}

ABOVE = {
    "MODEL.ONE_TO_ONE.LR_FACTOR": 0,
    "INPUT.CROP.SIDE": 0,
    "INPUT.LSJ.SCALE": 0,
    "INPUT.PIXEL_STD": 0,
    "HEAD.ANCHOR_SIZES": 0,
    "HEAD.BBOX_REG_WEIGHT": 0,
    "SOLVER.BASE_LR": 0,
    "SOLVER.GAMMA": 0,
    "SOLVER.NOT_FINITE_LR_FACTOR": 0,
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
    "INPUT.MAX_PIXELS": 2**30,  # the limit of OpenCV
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
    "SOLVER.NOT_FINITE_LR_FACTOR": 1,
    "SOLVER.TIMEOUT": 30 * 86_400,  # a month
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
