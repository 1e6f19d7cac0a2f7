"""Computes assignment rules over all P x T pairs of one image, like their releases.

The code is written from the papers and the known behaviour of the releases: plain PyTorch,
vectorised over boxes where the releases are. P: priors, T: boxes, C: classes, L: levels. Matrices
are (P, T). Each rule returns the gt index (P,), without the qualities and the weights of a loss.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dense import of_costs, of_lattice, of_scores, paa
from dense.image import Image

__all__ = ["DENSE", "MATRICES", "SAME", "Image", "Rule"]

Rule = Callable[[Image], Tensor]
DENSE: dict[str, Rule] = {
    "dynamic_atss": of_lattice.dynamic_atss,
    "atss": of_lattice.atss,
    "fcos": of_lattice.fcos,
    "dsla": of_lattice.dsla,
    "max_iou": of_lattice.max_iou,
    "topk": of_lattice.topk,
    "task_aligned": of_scores.task_aligned,
    "simota": of_costs.simota,
    "paa": paa.paa,
    "dynamic_soft_label": of_costs.dynamic_soft_label,
    "poto": of_scores.poto,
    "small_target_aligned": of_scores.small_target_aligned,
    "dw": of_scores.dw,
    "o2f": of_scores.o2f,
    "rfla": of_lattice.rfla,
    "simd": of_lattice.simd,
}
# Used for the labels if the form of the release would need too much memory.
SAME: dict[str, Rule] = {
    "simota": of_costs.simota_by_logits,
    "dynamic_soft_label": of_costs.dynamic_soft_label_by_logits,
}
# Number of float32 matrices (P, T) in memory at once, measured. Two rules hold some for 80 classes.
MATRICES = dict.fromkeys(DENSE, 9) | {"dsla": 19, "simota": 240, "dynamic_soft_label": 480}
