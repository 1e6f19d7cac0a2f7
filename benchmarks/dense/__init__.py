"""The assignment rules over all P x T pairs of one image, as their releases compute them.

Written from the papers and what the releases are known to compute: plain PyTorch, vectorised over
boxes where the releases are. Matrices are (P, T). Each gives the gt index (P,) of every prior, and
leaves out what a release computes beyond it: qualities, and weights of a loss.
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
# For the labels, where the release's form would need too much memory.
SAME: dict[str, Rule] = {
    "simota": of_costs.simota_by_logits,
    "dynamic_soft_label": of_costs.dynamic_soft_label_by_logits,
}
# Float32 matrices of P x T that live at once (measured). Two rules hold some of 80 classes.
MATRICES = dict.fromkeys(DENSE, 9) | {"dsla": 19, "simota": 240, "dynamic_soft_label": 480}
