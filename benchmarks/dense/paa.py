"""Computes PAA with a mixture of losses for each box by scikit-learn."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from dense.image import Image
from dense.of_lattice import max_iou
from dynamic_atss.boxes import giou


def paa(image: Image, k: int = 9) -> Tensor:
    """Loops over boxes and levels, like the release; every box searches all priors."""
    index = max_iou(image, 0.1, 0.1)
    learner = (index >= 0).nonzero().squeeze(1)
    box, level = index[learner], image.priors.level[learner]
    loss = _focal(image.logits[learner], image.classes[box])
    loss = loss + 1 - giou(image.predicted[learner], image.boxes[box])
    result = torch.full_like(index, -1)
    for t in range(len(image.boxes)):
        parts = []
        for i in range(len(image.priors.levels)):
            here = ((box == t) & (level == i)).nonzero().squeeze(1)
            parts.append(here[loss[here].topk(min(k, len(here)), largest=False).indices])
        candidate = torch.cat(parts)
        candidate = candidate[loss[candidate].argsort()]
        result[learner[candidate[: _low_component(loss[candidate])]]] = t
    return result


def _focal(logits: Tensor, classes: Tensor, alpha: float = 0.25) -> Tensor:
    """Returns the focal loss (M,) over all classes, alpha 0.25, gamma 2."""
    target, p = F.one_hot(classes, logits.shape[-1]).float(), logits.sigmoid()
    weight = target * alpha * (1 - p) ** 2 + (1 - target) * (1 - alpha) * p**2
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weight * entropy).sum(1)


def _low_component(loss: Tensor) -> int:
    """Counts the sorted losses up to the most likely one of the low component, inclusive."""
    from sklearn.mixture import GaussianMixture

    if len(loss) < 2:
        return len(loss)
    x = loss.double().cpu().numpy()[:, None]
    start = {"weights_init": [0.5, 0.5], "precisions_init": [[[1.0]], [[1.0]]]}
    mixture = GaussianMixture(2, means_init=[x[0], x[-1]], random_state=0, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low = torch.from_numpy(mixture.fit_predict(x)) == 0
    if not low.any():
        return len(loss)
    likelihood = torch.from_numpy(mixture.score_samples(x))
    return int(torch.where(low, likelihood, -torch.inf).argmax()) + 1
