"""Compares the rules with a naive double loop on 1,000 random scenes."""

import random

import numpy as np
import oracle
import pytest
import torch

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions

pytestmark = pytest.mark.slow

SCENES = 1000  # scenes of each rule
STRIDES, SIZES = (8, 16, 32), (32.0, 64.0, 128.0)
ANCHORS = {
    1: AnchorGenerator(STRIDES, SIZES),
    3: AnchorGenerator(STRIDES, SIZES, aspect_ratios=(0.5, 1.0, 2.0)),
}


def random_scene(rng: random.Random):
    """Makes small maps of odd shapes and 0 to 12 boxes, some equal, in one to three images."""
    height, width = rng.randint(1, 12), rng.randint(1, 12)
    sizes = tuple((-(-height // s), -(-width // s)) for s in (1, 2, 4))
    priors = ANCHORS[rng.choice((1, 1, 3))](sizes, torch.device("cpu"))
    images = rng.randint(1, 3)
    # Coordinates in quarters make exact ties of distances, which the lower index must win.
    step = rng.choice((0.25, 1 / 1024))
    boxes, image = [], []
    for n in range(images):
        for _ in range(rng.randint(0, 4)):
            x, y = rng.uniform(-8, 8 * width + 8), rng.uniform(-8, 8 * height + 8)
            w, h = 2 ** rng.uniform(1, 7), 2 ** rng.uniform(1, 7)
            box = [round(v / step) * step for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2)]
            if boxes and image[-1] == n and rng.random() < 0.15:
                box = boxes[-1]
            boxes.append(box)
            image.append(n)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 6, (images, len(priors), 4))
    predicted = (priors.boxes + torch.from_numpy(noise).float()).contiguous()
    corner = predicted[..., :2]
    predicted = torch.cat((corner, torch.maximum(corner, predicted[..., 2:])), dim=-1)
    gt = GroundTruth(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.zeros(len(boxes), dtype=torch.int64),
        torch.tensor(image, dtype=torch.int64),
    )
    logits = torch.zeros(images, len(priors), 2)
    return priors, gt, Predictions(predicted, logits), rng.choice((1, 4, 9, 9, 12))


@pytest.mark.parametrize("rule", ["dynamic_atss", "atss"])
def test_double_loop_agrees(rule):
    rng = random.Random(2022)
    borderline = positives = 0
    for scene in range(SCENES):
        priors, gt, predictions, topk = random_scene(rng)
        result = ASSIGNERS[rule](topk)(priors, gt, predictions)
        answer = oracle.assign(
            rule,
            priors.boxes.tolist(),
            [(level.height, level.width) for level in priors.levels],
            priors.per_location,
            gt.boxes.tolist(),
            gt.image_index.tolist(),
            predictions.boxes.tolist(),
            topk,
        )
        borderline += bool(answer.doubtful)
        for n, (index, quality) in enumerate(
            zip(result.gt_index.tolist(), result.quality.tolist(), strict=True)
        ):
            for p, (t, q) in enumerate(zip(index, quality, strict=True)):
                expected = answer.gt_index[n][p]
                positives += expected >= 0
                if {t, expected} & answer.doubtful:
                    continue
                assert t == expected, (scene, n, p)
                assert q == pytest.approx(answer.quality[n][p], abs=1e-5), (scene, n, p)
    print(f"{rule}: {borderline} of {SCENES} scenes hold a near tie; {positives} positives")
    assert positives > 4 * SCENES
    assert borderline <= SCENES // 50
