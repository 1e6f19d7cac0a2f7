"""Says on which kind of device a configuration runs."""

import torch
from yacs.config import CfgNode


def uses_gpu(cfg: CfgNode) -> bool:
    """Returns True if a run with this configuration uses a GPU (MODEL.DEVICE)."""
    return cfg.MODEL.DEVICE != "cpu" and torch.cuda.is_available()
