"""Asks the rule if a box gets a prior when the image has no other boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynamic_atss.inspection.recorder import Answer


def positive_alone(answer: Answer, box: NDArray[Any], prior: NDArray[Any]) -> NDArray[np.bool_]:
    """Gives (M,) flags for the M pairs of a box and a prior. Calls the rule once per box."""
    gt, found = answer.gt.objects, np.zeros(len(box), bool)
    for index in np.unique(box).tolist():
        assignment = answer.rule(answer.priors, gt[index : index + 1], answer.predictions)
        here = box == index
        found[here] = assignment.positive.detach().cpu().flatten().numpy()[prior[here]]
    return found
