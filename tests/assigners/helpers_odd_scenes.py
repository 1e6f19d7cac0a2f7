"""Makes scenes in which numbers tie exactly, are huge, or are not finite.

python helpers_odd_scenes.py FILE [rounded] saves the assignments of all rules. With "rounded",
PyTorch's functions are off by one unit in the last place, as on another device.
"""

import sys
from dataclasses import replace

import other_rounding
import torch

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions

INF, NAN = float("inf"), float("nan")
STRIDES, CLASSES = (8, 16, 32, 64), 5
MAPS = ((12, 16), (6, 8), (3, 4), (2, 2))
WHOLE = [[16.0, 16, 80, 80], [24, 8, 56, 40], [0, 32, 64, 64], [40, 40, 104, 72]]


def scene(boxes, images=2):
    """Gives priors, the same `boxes` in each image, and random predictions near the priors."""
    generator = torch.Generator().manual_seed(5)
    priors = AnchorGenerator(STRIDES, [8.0 * s for s in STRIDES])(MAPS, torch.device("cpu"))
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    image = torch.arange(images).repeat_interleave(len(boxes))
    classes = torch.arange(len(boxes)).repeat(images) % CLASSES
    gt = GroundTruth(boxes.repeat(images, 1), classes, image)
    noise = torch.randn(images, len(priors), 4, generator=generator)
    predicted = priors.boxes + 6 * noise
    predicted = torch.cat((predicted[..., :2], predicted[..., :2].maximum(predicted[..., 2:])), -1)
    logits = torch.randn(images, len(priors), CLASSES, generator=generator)
    return priors, gt, Predictions(predicted, logits)


def equal_predictions(boxes):
    """Lets all priors predict the same, so that only the order decides."""
    priors, gt, predictions = scene(boxes)
    box = torch.tensor([16.0, 16, 80, 80]).expand_as(predictions.boxes)
    return (
        priors,
        gt,
        replace(predictions, boxes=box.clone(), logits=torch.zeros_like(predictions.logits)),
    )


def with_values(values, boxes=WHOLE):
    """Puts `values` into every third box and every fifth row of logits that is predicted."""
    priors, gt, predictions = scene(boxes)
    boxes, logits = predictions.boxes.clone(), predictions.logits.clone()
    for n, value in enumerate(values):
        boxes[:, n :: 3 * len(values)] = value
        boxes[:, n + 1 :: 7 * len(values), n % 4] = value
        logits[:, n :: 5 * len(values)] = value
        logits[:, n + 2 :: 9 * len(values), n % CLASSES] = value
    return priors, gt, replace(predictions, boxes=boxes, logits=logits)


SCENES = {
    "equal boxes": lambda: scene([WHOLE[0]] * 4),
    "equal boxes of several kinds": lambda: scene([*WHOLE, *WHOLE, WHOLE[1]]),
    "whole pixels": lambda: scene(WHOLE),
    "equal predictions": lambda: equal_predictions(WHOLE),
    "no boxes": lambda: scene([]),
    "huge boxes": lambda: scene([[-1e6, -1e6, 1e6, 1e6], [0, 0, 1e5, 50], [10, 10, 60, 50]]),
    "boxes without end": lambda: scene([[-1e30, -1e30, 1e30, 1e30], [10, 10, 60, 50]]),
    "huge predictions": lambda: with_values((1e30, -1e30, 3e38)),
    "not a number": lambda: with_values((NAN,)),
    "infinite": lambda: with_values((INF, -INF)),
    "all not a number": lambda: with_values((NAN,) * 15),
}
NOT_FINITE = ("not a number", "infinite", "all not a number")


def assignments():
    """Gives gt index and quality by rule and scene."""
    found = {}
    for rule, make in ASSIGNERS.items():
        for name, inputs in SCENES.items():
            assignment = make()(*inputs())
            found[rule, name] = assignment.gt_index, assignment.quality
    return found


if __name__ == "__main__":
    if "rounded" in sys.argv:
        other_rounding.install()
    torch.save(assignments(), sys.argv[1])
