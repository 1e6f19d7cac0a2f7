"""Compares RFLA with a double loop and with hand-made cases."""

import random
from math import log, sqrt

import pytest
import torch
from scenes import random_scene, unpacked

from dynamic_atss.assigners.rules.rfla import FIELDS, RFLA
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions

EPS = 1e-6


def similarity(point, box, field, distance):
    x, y = point[0] - (box[0] + box[2]) / 2, point[1] - (box[1] + box[3]) / 2
    w, h, f = box[2] - box[0] + 1 + EPS, box[3] - box[1] + 1 + EPS, field + EPS
    if distance == "wasserstein":
        return 1 / (1 + x * x + y * y + EPS + ((w - f) ** 2 + (h - f) ** 2) / 4)
    spread = f**2 / w**2 + f**2 / h**2 + log(w**2 / f**2) + log(h**2 / f**2) - 2
    return 1 / (1 + (spread + 4 * x**2 / w**2 + 4 * y**2 / h**2) / 2)


def centerness(point, box):
    left, top = max(point[0] - box[0], 0.01), max(point[1] - box[1], 0.01)
    right, bottom = max(box[2] - point[0], 0.01), max(box[3] - point[1], 0.01)
    shares = min(left, right) / max(left, right), min(top, bottom) / max(top, bottom)
    return sqrt(shares[0] * shares[1])


def double_loop(s, topk, decay, fields, distance, conflicts):
    """Gives {(image, prior): (gt index, quality)}, the ignored places, and how many positives the
    second round added."""
    winners, ignored, first = {}, set(), 0
    for k, scale in zip(topk, (1.0, decay), strict=True):
        taken = {}
        for t, (box, n) in enumerate(zip(s["boxes"], s["images"], strict=True)):
            found = {
                p: similarity(point, box, fields[s["levels"][p]] * scale, distance)
                for p, point in enumerate(s["points"])
            }
            limit = sorted(found.values(), reverse=True)[:k][-1]
            for p, u in found.items():
                if u >= 0.8 and scale != 1.0:
                    ignored.add((n, p))
                worth = t if conflicts == "last" else u
                if u >= limit and worth > taken.get((n, p), (0, -1.0))[1]:
                    taken[n, p] = (t, worth)
        for place, (t, _) in taken.items():
            winners.setdefault(place, (t, centerness(s["points"][place[1]], s["boxes"][t])))
        first = first or len(winners)
    return winners, ignored - winners.keys(), len(winners) - first


@pytest.mark.parametrize(
    "arguments",
    [{}, {"conflicts": "best"}, {"topk": (2, 3), "decay": 0.5}, {"distance": "wasserstein"}],
    ids=str,
)
def test_double_loop_agrees(arguments):
    rng, positives, second, ignored = random.Random(3), 0, 0, 0
    fields = (36.0, 70.0, 140.0)
    asked = {"topk": (3, 1), "decay": 0.9, "distance": "kl", "conflicts": "last"} | arguments
    for _ in range(150):
        scene = random_scene(rng, ("square", "points"))
        result = RFLA(fields=fields, **arguments)(*scene)
        winners, near, more = double_loop(unpacked(*scene), fields=fields, **asked)
        expected = torch.full(result.gt_index.shape, -1)
        quality = torch.zeros_like(result.quality)
        for place, (t, value) in winners.items():
            expected[place], quality[place] = t, value
        for place in near:
            expected[place] = -2
        assert torch.equal(result.gt_index, expected)
        torch.testing.assert_close(result.quality, quality, rtol=1e-5, atol=1e-6)
        positives += len(winners)
        ignored += len(near)
        second += more
    assert positives > 700 and second > 0, (positives, second)
    assert ignored > 3 or {"distance", "decay"} & arguments.keys(), ignored


def test_the_fields_are_half_of_what_a_resnet_50_with_fpn_sees():
    """Each layer adds (kernel - 1) * the distance of its inputs, from 7 x 7 and pooling on."""
    sees, step, wanted = 1 + 6 + 2 * 2, 4, {}
    for level, blocks in ((2, 3), (3, 3), (4, 5), (5, 2)):  # as the release counts them
        if level > 2:
            sees, step = sees + 2 * step, 2 * step
        sees += 2 * step * blocks
        wanted[level] = sees
    for level in (6, 7):
        step *= 2
        sees += 2 * step
        wanted[level] = sees
    assert tuple(wanted[level] / 2 for level in range(3, 8)) == FIELDS


def test_of_anchors_at_one_location_all_count():
    rng = random.Random(8)
    for _ in range(20):
        priors, gt, predictions = random_scene(rng, ("three",))
        index = RFLA(fields=(12.0, 30.0, 60.0))(priors, gt, predictions).gt_index
        assert torch.equal(index, index[:, ::3].repeat_interleave(3, dim=1))


def test_a_tiny_box_between_points_has_positives():
    points = PointGenerator((8, 16))(((8, 8), (4, 4)), torch.device("cpu"))
    gt = GroundTruth(torch.tensor([[30.0, 31, 33, 34]]), torch.tensor([0]), torch.tensor([0]))
    predictions = Predictions(points.boxes[None], torch.zeros(1, len(points), 1))
    result = RFLA()(points, gt, predictions)
    assert result.positive.sum() >= 3 and (result.quality[result.positive] > 0).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"topk": (0, 1)}, "topk_0 is 0"),
        ({"decay": 0}, "decay is 0"),
        ({"fields": (5, 4)}, "increasing order"),
        ({"distance": "iou"}, "distance is 'iou'; give one of 'kl', 'wasserstein'"),
        ({"conflicts": "first"}, "conflicts is 'first'; give one of 'last', 'best'"),
        ({"topk": (3,)}, "topk is .* two numbers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RFLA(**arguments)
