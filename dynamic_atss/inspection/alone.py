"""Whether a box would have had a prior if the other boxes were not there: the rule is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.inspection.recorder import Answer


def had_alone(answer: Answer, box: NDArray[Any], prior: NDArray[Any]) -> NDArray[np.bool_]:
    """(M,) of the pairs of box and prior (M,): one call of the rule for each box among them."""
    gt, found = answer.gt.objects, np.zeros(len(box), bool)
    for one in np.unique(box).tolist():
        own = answer.rule(answer.priors, gt[one : one + 1], answer.predictions)
        here = box == one
        found[here] = own.positive.detach().cpu().flatten().numpy()[prior[here]]
    return found
