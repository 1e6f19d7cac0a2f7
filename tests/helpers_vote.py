"""Merges detections of one image box by box in plain Python."""

from math import exp


def rows(boxes, scores, classes):
    """Gives sorted rows of class, score and box."""
    columns = classes.tolist(), scores.tolist(), boxes.tolist()
    return sorted([c, s, *b] for c, s, b in zip(*columns, strict=True))


def _iou(a, b, offset):
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = max(width, 0) * max(height, 0)
    areas = [(x2 - x1 + offset) * (y2 - y1 + offset) for x1, y1, x2, y2 in (a, b)]
    return inter / (sum(areas) - inter)


def _vote_one_class(boxes, threshold, soft, offset):
    """Merges the [(box, score)] of one class."""
    left, result = sorted(boxes, key=lambda entry: -entry[1]), []
    while left:
        best, best_score = left[0]
        cluster = [e for e in left if _iou(best, e[0], offset) >= threshold]
        left = [e for e in left if e not in cluster]
        if len(cluster) == 1:
            result.append((best, best_score))
            continue
        total = sum(score for _, score in cluster)
        mean = [sum(box[k] * score for box, score in cluster) / total for k in range(4)]
        result.append((mean, best_score))
        lowered = [(box, score * (1 - _iou(best, box, offset))) for box, score in cluster]
        result += [e for e in lowered if soft is not None and e[1] >= soft]
    return result


def naive_vote(boxes, scores, classes, threshold, soft, offset):
    """Gives sorted rows of class, score and box."""
    found = []
    entries = list(zip(boxes.tolist(), scores.tolist(), classes.tolist(), strict=True))
    for c in sorted(set(classes.tolist())):
        mine = [(box, score) for box, score, own in entries if own == c]
        found += [[c, score, *box] for box, score in _vote_one_class(mine, threshold, soft, offset)]
    return sorted(found)


def naive_score_vote(box, label, boxes, scores, classes, offset):
    """Gives the place of a box after the vote of its image's candidates."""
    total, sums = 0.0, [0.0] * 4
    for voter, score, c in zip(boxes.tolist(), scores.tolist(), classes.tolist(), strict=True):
        u = _iou(box, voter, offset)
        if c == label and u > 0.01:
            weight = score * exp(-((1 - u) ** 2) / 0.025)
            total += weight
            sums = [s + weight * v for s, v in zip(sums, voter, strict=True)]
    return [s / total for s in sums] if total else box


def naive_nms(boxes, scores, classes, threshold, offset=1.0):
    """Gives sorted rows of class, score and box."""
    kept = []
    for row in sorted(rows(boxes, scores, classes), key=lambda row: -row[1]):
        others = [k for k in kept if k[0] == row[0]]
        if all(_iou(other[2:], row[2:], offset) <= threshold for other in others):
            kept.append(row)
    return sorted(kept)
