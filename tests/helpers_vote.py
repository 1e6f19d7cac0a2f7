"""Merges the detections of an image by simple loops over Python numbers.

In all functions, `plus` is 1 if x2 and y2 are the last pixels of a box, else 0.
"""

from math import exp


def rows(boxes, scores, classes):
    """Gives sorted rows of class, score and box."""
    columns = classes.tolist(), scores.tolist(), boxes.tolist()
    return sorted([c, s, *b] for c, s, b in zip(*columns, strict=True))


def _iou(a, b, plus):
    width = min(a[2], b[2]) - max(a[0], b[0]) + plus
    height = min(a[3], b[3]) - max(a[1], b[1]) + plus
    inter = max(width, 0) * max(height, 0)
    areas = [(x2 - x1 + plus) * (y2 - y1 + plus) for x1, y1, x2, y2 in (a, b)]
    return inter / (sum(areas) - inter)


def _vote_one_class(boxes, threshold, soft, plus):
    """Merges the (box, score) entries of a class."""
    remaining, result = sorted(boxes, key=lambda entry: -entry[1]), []
    while remaining:
        best, best_score = remaining[0]
        cluster = [e for e in remaining if _iou(best, e[0], plus) >= threshold]
        remaining = [e for e in remaining if e not in cluster]
        if len(cluster) == 1:
            result.append((best, best_score))
            continue
        total = sum(score for _, score in cluster)
        mean = [sum(box[k] * score for box, score in cluster) / total for k in range(4)]
        result.append((mean, best_score))
        lowered = [(box, score * (1 - _iou(best, box, plus))) for box, score in cluster]
        result += [e for e in lowered if soft is not None and e[1] >= soft]
    return result


def naive_vote(boxes, scores, classes, threshold, soft, plus):
    """Gives sorted rows of class, score and box after voting."""
    found = []
    entries = list(zip(boxes.tolist(), scores.tolist(), classes.tolist(), strict=True))
    for c in sorted(set(classes.tolist())):
        of_class = [(box, score) for box, score, label in entries if label == c]
        merged = _vote_one_class(of_class, threshold, soft, plus)
        found += [[c, score, *box] for box, score in merged]
    return sorted(found)


def naive_score_vote(box, label, boxes, scores, classes, plus):
    """Gives the mean of a box over all candidates of its class in the image."""
    total, sums = 0.0, [0.0] * 4
    for voter, score, c in zip(boxes.tolist(), scores.tolist(), classes.tolist(), strict=True):
        u = _iou(box, voter, plus)
        if c == label and u > 0.01:
            weight = score * exp(-((1 - u) ** 2) / 0.025)
            total += weight
            sums = [s + weight * v for s, v in zip(sums, voter, strict=True)]
    return [s / total for s in sums] if total else box


def naive_nms(boxes, scores, classes, threshold, plus=1.0):
    """Gives sorted rows of class, score and box after NMS."""
    kept = []
    for row in sorted(rows(boxes, scores, classes), key=lambda row: -row[1]):
        others = [k for k in kept if k[0] == row[0]]
        if all(_iou(other[2:], row[2:], plus) <= threshold for other in others):
            kept.append(row)
    return sorted(kept)
