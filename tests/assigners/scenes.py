"""Makes random scenes for double loops in plain Python.

The scenes are float64 on a grid of 1/1024 pixel (float32: 1/4). Areas are exact there, so numbers
tie exactly or clearly differ. Rule and loop must agree on every prior.
"""

import random
from math import exp, log

import numpy as np
import torch

from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import GroundTruth, Predictions, Priors

CLASSES = 3
STRIDES, SIZES = (8, 16, 32), (32.0, 64.0, 128.0)
GENERATORS = {
    "square": AnchorGenerator(STRIDES, SIZES),
    "three": AnchorGenerator(STRIDES, SIZES, aspect_ratios=(0.5, 1.0, 2.0)),
    "points": PointGenerator(STRIDES),
}


def random_scene(rng: random.Random, kinds, dtype=torch.float64, step=1 / 1024, largest=7.0):
    """Makes small maps of odd shapes and 0 to 8 boxes in two images. Some are equal or tiny."""
    height, width = rng.randint(1, 6), rng.randint(1, 6)
    sizes = tuple((-(-height // s), -(-width // s)) for s in (1, 2, 4))
    priors = GENERATORS[rng.choice(kinds)](sizes, torch.device("cpu"))
    priors = Priors(
        priors.boxes.to(dtype), priors.levels, priors.per_location, priors.offset, priors.sized
    )
    step = rng.choice((0.25, step))  # quarters put priors on borders
    boxes, image = [], []
    for n in range(2):
        for _ in range(rng.randint(0, 4)):
            x, y = rng.uniform(-4, 8 * width + 4), rng.uniform(-4, 8 * height + 4)
            w, h = 2 ** rng.uniform(0, largest), 2 ** rng.uniform(0, largest)
            box = [round(v / step) * step for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]
            boxes.append(boxes[-1] if boxes and image[-1] == n and rng.random() < 0.1 else box)
            image.append(n)
    generator = np.random.default_rng(rng.randrange(2**32))
    gt = GroundTruth(
        torch.tensor(boxes, dtype=dtype).view(-1, 4),
        torch.from_numpy(generator.integers(0, CLASSES, len(boxes))),
        torch.tensor(image, dtype=torch.int64),
    )
    return priors, gt, random_predictions(generator, priors, gt, dtype)


def random_predictions(generator, priors, gt, dtype):
    """Lets each prior predict roughly a box of its image, or itself."""
    base = priors.boxes.expand(2, -1, 4).clone()
    for n in range(2):
        here = gt.boxes[gt.image_index == n]
        if len(here):
            pick = generator.integers(0, len(here), len(priors))
            moved = torch.from_numpy(generator.random(len(priors)) < 0.7)
            base[n, moved] = here[pick][moved]
    boxes = base + torch.from_numpy(generator.normal(0, 3, base.shape))
    boxes = torch.cat((boxes[..., :2], torch.maximum(boxes[..., :2], boxes[..., 2:])), -1)
    logits = torch.from_numpy(generator.normal(-1, 2, (2, len(priors), CLASSES)))
    return Predictions(boxes.to(dtype), logits.to(dtype), iteration=int(generator.integers(0, 10)))


def unpacked(priors, gt, predictions):
    """Gives lists of centres, strides, levels, boxes, classes, images and predictions."""
    levels = [n for n, x in enumerate(priors.levels) for _ in range(x.locations)]
    levels = [n for n in levels for _ in range(priors.per_location)]
    anchors = priors.boxes.tolist()
    return {
        "anchors": anchors,
        "points": [[(a[0] + a[2]) / 2, (a[1] + a[3]) / 2] for a in anchors],
        "levels": levels,
        "strides": [STRIDES[n] for n in levels],
        "boxes": gt.boxes.tolist(),
        "classes": gt.classes.tolist(),
        "images": gt.image_index.tolist(),
        "predicted": predictions.boxes.tolist(),
        "logits": predictions.logits.tolist(),
    }


def iou(a, b, offset=0):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0.0)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    union = area_a + area_b - width * height
    return width * height / union if union > 0 else 0.0


def nearest_side(point, box):
    return min(point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1])


def sigmoid(x):
    return 1 / (1 + exp(-x))


def cross_entropy(x, target):
    return -target * log(sigmoid(x)) - (1 - target) * log(1 - sigmoid(x))


def agree(result, answer):
    """Compares with {(image, prior): (gt index, quality)}. Other priors must be background."""
    n, p = result.positive.nonzero().unbind(1)
    found = dict(
        zip(zip(n.tolist(), p.tolist(), strict=True), result.gt_index[n, p].tolist(), strict=True)
    )
    assert found == {place: t for place, (t, _) in answer.items()}
    expected = torch.zeros_like(result.quality)
    for place, (_, quality) in answer.items():
        expected[place] = quality
    torch.testing.assert_close(result.quality, expected, rtol=1e-5, atol=1e-6)
