"""Compares FCOS, DSLA, max-IoU and top-k with double loops over priors and boxes in float64.

The loops follow the published conventions and share no code with the package. Differences of the
scenes' coordinates are exact in float32, so only products and quotients can nearly tie. The loops
list the priors where this happens. All other priors must agree.
"""

import random
from math import hypot, sqrt

import pytest
from oracle import center, centerness, iou
from test_random_scenes import random_scene

from dynamic_atss.assigners.rules.dsla import DSLA
from dynamic_atss.assigners.rules.fcos import FCOS
from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.assigners.rules.topk import TopK

pytestmark = pytest.mark.slow

SCENES = 250  # scenes of each rule
CLOSE = 1e-6  # of scores; relative above 1
LIMITS = ((64, 128, 256, 512), (16, 40), (10.5, 30))


def distances(point, box):
    return point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1]


def near(a, b):
    return 0 < abs(a - b) <= CLOSE * max(1.0, abs(a))


def settle(offers):
    """Gives (gt, quality, True if it nearly ties) of a prior for offers (score, gt, quality)."""
    if not offers:
        return -1, 0.0, False
    score, winner, quality = max(offers, key=lambda offer: (offer[0], -offer[1]))
    return winner, quality, any(near(score, other) for other, _, _ in offers)


def region(box, radius, stride):
    """Gives the box, or its part around the centre."""
    if not radius:
        return box
    x, y = center(box)
    r = radius * stride
    return [max(x - r, box[0]), max(y - r, box[1]), min(x + r, box[2]), min(y + r, box[3])]


def fcos(scene, image, radius, limits, margin):
    low, high = [-1, *limits], [*limits, float("inf")]
    for p in range(len(scene.priors)):
        level, offers = scene.level[p], []
        for t, box in scene.boxes_of(image):
            cut = region(box, radius, scene.stride[p])
            if min(distances(scene.points[p], cut)) <= margin:
                continue
            if low[level] <= max(distances(scene.points[p], box)) <= high[level]:
                area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
                offers.append((-area, t, centerness(scene.points[p], box)))
        yield settle(offers)


def dsla_score(point, box, stride, low, high, relaxation, core_zone):
    sides = distances(point, box)
    ratio = min(sides[0], sides[2]) / max(sides[0], sides[2], 0.01)
    score = sqrt(ratio * min(sides[1], sides[3]) / max(sides[1], sides[3], 0.01))
    x, y = center(box)
    if core_zone and abs(point[0] - x) <= stride / 2 and abs(point[1] - y) <= stride / 2:
        score = 1.0
    lowest, highest = int(low * (1 - relaxation)), int(high * (1 + relaxation))
    size = max(sides)
    if size < low:
        return score * max((size - lowest) / max(low - lowest, 0.01), 0)
    if size > high:
        return score * max((highest - size) / max(highest - high, 0.01), 0)
    return score


def dsla(scene, image, relaxation, core_zone, radius, limits):
    low, high = [0, *limits], [*limits, 1e8]
    for p in range(len(scene.priors)):
        level, stride, offers = scene.level[p], scene.stride[p], []
        for t, box in scene.boxes_of(image):
            if min(distances(scene.points[p], region(box, radius, stride))) <= 0:
                continue
            ends = (low[level], high[level])
            score = dsla_score(scene.points[p], box, stride, *ends, relaxation, core_zone)
            if score > 0:
                offers.append((score, t, score))
        yield settle(offers)


def max_iou(scene, image, positive, negative, inside_only):
    boxes = scene.boxes_of(image)
    table = {t: [iou(prior, box) for prior in scene.priors] for t, box in boxes}
    largest = {t: max(row) for t, row in table.items()}
    for p in range(len(scene.priors)):
        offers = [(row[p], t, row[p]) for t, row in table.items() if row[p] > 0]
        winner, best, close = settle(offers)
        claimed = any(row[p] == largest[t] > 0 for t, row in table.items())
        close |= any(near(row[p], largest[t]) for t, row in table.items())
        close |= near(best, positive) or near(best, negative)
        if best < positive and not claimed:
            yield (-2 if best >= negative else -1), 0.0, close
            continue
        box = scene.boxes[winner]
        sides = min(distances(scene.points[p], box))
        if inside_only and sides <= 0.01:
            yield -2, 0.0, close
        else:
            yield winner, centerness(scene.points[p], box) if sides > 0 else 0.0, close


def topk(scene, image, k):
    boxes = scene.boxes_of(image)
    middle = {t: center(box) for t, box in boxes}
    away = {t: [hypot(x - c[0], y - c[1]) for x, y in scene.points] for t, c in middle.items()}
    longest = max((max(row) for row in away.values()), default=1.0)
    offers = [[] for _ in scene.priors]
    close = [False] * len(scene.priors)
    for t, box in boxes:
        ious = [iou(prior, box) for prior in scene.priors]
        scores = [i - d / longest / 1000 for i, d in zip(ious, away[t], strict=True)]
        order = sorted(range(len(scores)), key=lambda p: (-scores[p], p))
        last = scores[order[:k][-1]]
        for p in order[k:]:
            if near(last, scores[p]):  # may replace any that is equally near
                for q in order:
                    close[q] |= abs(last - scores[q]) <= CLOSE
        for p in order[:k]:
            if min(distances(scene.points[p], box)) > 0.01:
                offers[p].append((ious[p], t, centerness(scene.points[p], box)))
    for p, made in enumerate(offers):
        winner, quality, tie = settle(made)
        yield winner, quality, tie or close[p]


class Scene:
    """A scene as plain lists: priors and points with level and stride, and boxes with image."""

    def __init__(self, priors, gt):
        self.priors = priors.boxes.tolist()
        self.points = [center(box) for box in self.priors]
        counts = [x.height * x.width * priors.per_location for x in priors.levels]
        self.level = [i for i, count in enumerate(counts) for _ in range(count)]
        self.stride = [priors.levels[i].stride for i in self.level]
        self.boxes, self.image = gt.boxes.tolist(), gt.image_index.tolist()

    def boxes_of(self, image):
        return [(t, box) for t, box in enumerate(self.boxes) if self.image[t] == image]


def fcos_of(rng, k):
    radius = rng.choice((0.0, 0.5, 1.5, 2.5))
    margin = rng.choice((0.0, 0.01)) if not radius else 0.0
    arguments = (radius, rng.choice(LIMITS), margin)
    return FCOS(*arguments), fcos, arguments


def dsla_of(rng, k):
    switches = (rng.choice((0.0, 0.2, 0.5)), rng.random() < 0.5, rng.choice((0.0, 1.5)))
    arguments = (*switches, rng.choice(LIMITS))
    return DSLA(*arguments), dsla, arguments


def max_iou_of(inside_only):
    def make(rng, k):
        arguments = (*rng.choice(((0.5, 0.4), (0.3, 0.3), (0.7, 0.1))), inside_only)
        return MaxIoU(*arguments), max_iou, arguments

    return make


def topk_of(rng, k):
    return TopK(k), topk, (k,)


RULES = {
    "fcos": fcos_of,
    "dsla": dsla_of,
    "max_iou": max_iou_of(False),
    "max_iou inside_only": max_iou_of(True),
    "topk": topk_of,
}


@pytest.mark.parametrize("name", RULES)
def test_double_loop_agrees(name):
    rng = random.Random(2208)
    close = positives = 0
    for number in range(SCENES):
        priors, gt, predictions, k = random_scene(rng)
        rule, loop, arguments = RULES[name](rng, k)
        result = rule(priors, gt, predictions)
        scene = Scene(priors, gt)
        for n, (index, quality) in enumerate(zip(result.gt_index, result.quality, strict=True)):
            answers = loop(scene, n, *arguments)
            found = zip(index.tolist(), quality.tolist(), answers, strict=True)
            for p, (t, q, (expected, soft, doubtful)) in enumerate(found):
                close += doubtful
                positives += expected >= 0
                if not doubtful:
                    assert t == expected, (number, n, p, arguments)
                    assert q == pytest.approx(soft, abs=1e-5), (number, n, p, arguments)
    print(f"{name}: {positives} positives and {close} near ties in {SCENES} scenes")
    assert positives > 4 * SCENES
    assert close <= positives // 50
