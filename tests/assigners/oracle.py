"""Implements ATSS and Dynamic ATSS as a double loop over priors and boxes in float64.

Follows the published conventions and shares no code with the package. A float32 implementation may
decide otherwise where numbers nearly tie. `doubtful` lists the boxes where this is possible. All
other boxes must agree.
"""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np

CLOSE = 1e-5  # of IoUs and thresholds; relative for squared distances
CLOSE_PIXELS = 1e-4  # of the inside test


@dataclass
class Answer:
    """Holds the answer of the double loop.

    Attributes:
        gt_index, quality: by image and prior.
        doubtful: the boxes whose decisions nearly tie.
    """

    gt_index: list[list[int]]
    quality: list[list[float]]
    doubtful: set[int] = field(default_factory=set)


def center(box):
    """Computes the centre in float32, the type of boxes, and then exactly."""
    return [float(np.float32(box[i] + box[i + 2])) / 2 for i in (0, 1)]


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0.0)
    inter = width * height
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return inter / (area_a + area_b - inter)


def mean_and_std(values):
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def centerness(point, box):
    left, right = point[0] - box[0], box[2] - point[0]
    top, bottom = point[1] - box[1], box[3] - point[1]
    return sqrt(min(left, right) / max(left, right) * (min(top, bottom) / max(top, bottom)))


def candidates(centers, levels, per_location, gt_center, topk):
    """Gives the candidates of a box, and True if the last one of a level nearly ties."""
    chosen, first, close = [], 0, False
    for height, width in levels:
        count = height * width * per_location
        by_distance = []
        for p in range(first, first + count):
            dx, dy = centers[p][0] - gt_center[0], centers[p][1] - gt_center[1]
            by_distance.append((dx * dx + dy * dy, p))
        by_distance.sort()  # equal distances: the lower index first
        k = min(topk * per_location, count)
        if k < count:
            gap = by_distance[k][0] - by_distance[k - 1][0]
            close |= 0 < gap < CLOSE * by_distance[k][0]
        chosen += [p for _, p in by_distance[:k]]
        first += count
    return chosen, close


def assign(rule, priors, levels, per_location, gt_boxes, gt_image, predicted, topk):
    """Assigns the priors of all images.

    Args:
        priors: P boxes.
        levels: (height, width) of each level.
        predicted: by image, P boxes.
    """
    centers = [center(p) for p in priors]
    images = len(predicted)
    answer = Answer([[-1] * len(priors) for _ in range(images)], [], set())
    answer.quality = [[0.0] * len(priors) for _ in range(images)]
    best = [[-1.0] * len(priors) for _ in range(images)]
    for t, (box, n) in enumerate(zip(gt_boxes, gt_image, strict=True)):
        chosen, close = candidates(centers, levels, per_location, center(box), topk)
        if close:
            answer.doubtful.add(t)
        terms = [[iou(priors[p], box) for p in chosen]]
        if rule == "dynamic_atss":
            terms.insert(0, [iou(predicted[n][p], box) for p in chosen])
        threshold = sum(sum(mean_and_std(values)) for values in terms)
        for i, p in enumerate(chosen):
            score = sum(values[i] for values in terms)
            x, y = centers[p]
            side = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            near_threshold = abs(score - threshold) < CLOSE and len(chosen) > 1 and threshold > 0
            if near_threshold and side > 0.01 - CLOSE_PIXELS:
                answer.doubtful.add(t)
            if abs(side - 0.01) < CLOSE_PIXELS and score >= threshold - CLOSE:
                answer.doubtful.add(t)
            if score < threshold or side <= 0.01:
                continue
            other = answer.gt_index[n][p]
            if other >= 0 and abs(score - best[n][p]) < CLOSE and gt_boxes[other] != box:
                answer.doubtful |= {t, other}
            if score > best[n][p]:  # a tie stays with the earlier box
                best[n][p] = score
                answer.gt_index[n][p] = t
                answer.quality[n][p] = (
                    terms[0][i] if rule == "dynamic_atss" else centerness(centers[p], box)
                )
    return answer
