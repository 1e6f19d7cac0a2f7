"""Maps the key names of other frameworks to the keys of this one."""

from __future__ import annotations

_BATCH = "SOLVER.IMS_PER_BATCH, images of an iteration over all processes"
_RATE = "SOLVER.BASE_LR"
_ITERATIONS = "SOLVER.MAX_ITER: epochs x images of the training set / SOLVER.IMS_PER_BATCH"
_CLASSES = "not needed, as the data set gives the number: leave it out"
_WEIGHT = "MODEL.WEIGHT"
_SIZE = "INPUT.MIN_SIZE_TRAIN and INPUT.MIN_SIZE_TEST, of the shorter side"
_THRESHOLD = "INFERENCE_TH of the head's section, as MODEL.ATSS.INFERENCE_TH"
_OUTPUT = "OUTPUT_DIR"

# The last part of a key, in capitals -> the key here.
OTHER_NAMES = {
    **dict.fromkeys(("LEARNING_RATE", "BASE_LEARNING_RATE", "LR", "LR0", "INIT_LR"), _RATE),
    **dict.fromkeys(("BATCH_SIZE", "BATCH", "SAMPLES_PER_GPU", "IMS_PER_GPU"), _BATCH),
    **dict.fromkeys(("EPOCHS", "EPOCH", "MAX_EPOCHS", "NUM_EPOCHS"), _ITERATIONS),
    **dict.fromkeys(("ITERATIONS", "NUM_ITERS", "MAX_STEPS"), "SOLVER.MAX_ITER"),
    **dict.fromkeys(("NUM_CLASSES", "NC", "CLASSES"), _CLASSES),
    **dict.fromkeys(("WEIGHTS", "PRETRAINED", "LOAD_FROM"), _WEIGHT),
    **dict.fromkeys(("RESUME", "RESUME_FROM", "AUTO_RESUME"), "the option --resume"),
    **dict.fromkeys(("DEVICE", "DEVICES"), "MODEL.DEVICE"),
    **dict.fromkeys(("GPUS", "NUM_GPUS"), "torchrun --nproc-per-node"),
    **dict.fromkeys(("IMG_SIZE", "IMGSZ", "IMAGE_SIZE", "IMG_SCALE"), _SIZE),
    **dict.fromkeys(("WORKERS", "NUM_WORKERS", "WORKERS_PER_GPU"), "DATALOADER.NUM_WORKERS"),
    **dict.fromkeys(("SCORE_THRESH", "SCORE_THRESH_TEST", "SCORE_THR", "CONF"), _THRESHOLD),
    **dict.fromkeys(("MAX_PER_IMG", "MAX_DET"), "TEST.DETECTIONS_PER_IMG"),
    **dict.fromkeys(("EVAL_PERIOD", "EVAL_INTERVAL", "VAL_INTERVAL"), "TEST.PERIOD"),
    **dict.fromkeys(("WORK_DIR", "OUTPUT", "SAVE_DIR", "PROJECT"), _OUTPUT),
    **dict.fromkeys(("VAL", "VALID"), "DATASETS.TEST"),
    **dict.fromkeys(("DATA_ROOT", "DATA_DIR"), "DATASETS.ROOT"),
    **dict.fromkeys(("AMP", "FP16", "BF16"), "DTYPE bfloat16"),
    "WARMUP_EPOCHS": "SOLVER.WARMUP_ITERS",
    "LR_SCHEDULER_NAME": "SOLVER.SCHEDULE",
    "PATIENCE": "TEST.PATIENCE",
}


def other_name(key: str) -> str:
    """Gives the key here for a key of another framework; "" if the name is not known."""
    return OTHER_NAMES.get(key.rpartition(".")[2].upper(), "")
