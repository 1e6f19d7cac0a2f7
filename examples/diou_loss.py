"""Computes a custom box loss: DIoU (Zheng et al., AAAI 2020, arXiv 1911.08287).

python tools/train_net.py --config-file configs/quickstart/bccd_R_18.yaml \
  MODEL.BOX_LOSS examples/diou_loss.py:diou
"""

from torch import Tensor

from dynamic_atss.boxes import centers, iou
from dynamic_atss.types import Priors


def diou(
    raw: Tensor, decoded: Tensor, targets: Tensor, weight: Tensor, priors: Priors
) -> dict[str, Tensor]:
    """Sums 1 - IoU + (distance of the centres / diagonal of the enclosing box)^2.

    Args:
        decoded, targets: (N, P, 4) boxes xyxy.
        weight: (N, P), 0 where a prior learns no box.
    """
    distance = (centers(decoded) - centers(targets)).square().sum(-1)
    low = decoded[..., :2].minimum(targets[..., :2])
    high = decoded[..., 2:].maximum(targets[..., 2:])
    diagonal = (high - low).square().sum(-1).clamp(min=1e-6)
    loss = 1 - iou(decoded, targets) + distance / diagonal
    return {"loss_reg": (loss * weight).sum()}
