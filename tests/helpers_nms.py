"""Makes candidates for NMS, normal and hostile ones, and suppresses them by a simple loop."""

import torch

INF, NAN = float("inf"), float("nan")


def crowd(images, count, classes, seed=0):
    """Makes boxes that overlap a lot, with some equal scores and a tenth of the scores 0."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=generator) * 60
    side = torch.rand(images, count, 2, generator=generator) * 40
    scores = torch.rand(images, count, generator=generator)
    scores = torch.where(scores < 0.5, (scores * 20).ceil() / 20, scores)
    scores[scores < 0.1] = 0.0
    labels = torch.randint(classes, (images, count), generator=generator)
    return torch.cat((corner, corner + side), 2), scores, labels


def all_ties(images=2, count=150):
    boxes, scores, classes = crowd(images, count, 3, seed=1)
    return boxes, torch.full_like(scores, 0.5), classes


def integer_pixels():
    """Makes boxes whose IoUs are exactly a half, a third and so on."""
    boxes, scores, classes = crowd(2, 300, 2, seed=2)
    return (boxes / 8).round() * 8, scores, classes


def not_finite():
    """Makes boxes that are not finite, inverted, or without area, and bad scores."""
    boxes, scores, classes = crowd(2, 160, 2, seed=3)
    for step, value in enumerate((NAN, INF, -INF, 1e38, -1e38, 0.0)):
        boxes[0, step::16] = value
        boxes[1, step::16, step % 4] = value
    boxes[:, 8::16] = boxes[:, 8::16].flip(2)  # inverted
    boxes[0, 9::16, 2:] = boxes[0, 9::16, :2]
    boxes[0, 10::16] = torch.tensor([-INF, -INF, INF, INF])
    scores[0, ::7], scores[0, 1::7], scores[1, ::5], scores[1, 1::5] = NAN, -0.5, INF, -INF
    return boxes, scores, classes


def odd_classes():
    boxes, scores, classes = crowd(2, 100, 4, seed=4)
    numbers = torch.tensor([-(2**63), 2**63 - 1, -1, 2**40])
    return boxes, scores, numbers[classes]


def huge():
    """Makes boxes around 2^55 and 1e30, and equal boxes in two classes.

    Adding a pixel changes nothing at these coordinates.
    """
    boxes, scores, classes = crowd(3, 60, 2, seed=5)
    boxes = boxes * torch.tensor([2.0**50, 1e28, 0.0])[:, None, None]
    boxes[2] = 2.0**60
    return boxes, scores, classes


def tiny():
    """Makes boxes so small that adding an offset would round them away, with scores near 0."""
    boxes, scores, classes = crowd(2, 100, 3, seed=6)
    return boxes * 1e-30, scores * 1e-38, classes


SCENES = {
    "some classes": lambda: crowd(3, 200, 5),
    "one class, crowded": lambda: crowd(1, 400, 1),
    "each of another class": lambda: (*crowd(1, 100, 1)[:2], torch.arange(100)[None]),
    "all ties": all_ties,
    "integer pixels": integer_pixels,
    "not finite": not_finite,
    "odd classes": odd_classes,
    "huge": huge,
    "tiny": tiny,
    "one candidate": lambda: crowd(2, 1, 1, seed=7),
    "no candidates": lambda: (torch.rand(2, 5, 4), torch.zeros(2, 5), torch.zeros(2, 5).long()),
    "no places": lambda: crowd(2, 0, 1),
    "no images": lambda: crowd(0, 7, 1),
}


def greedy(boxes, scores, classes, threshold, plus):
    """Gives the indices that NMS keeps in an image with boxes (M, 4), scores (M,), classes (M,).

    Args:
        plus: 1 if x2 and y2 are the last pixels of a box, else 0.
    """
    boxes, scores, classes = boxes.tolist(), scores.tolist(), classes.tolist()
    keep = []
    for i in sorted((i for i, s in enumerate(scores) if s > 0), key=lambda i: -scores[i]):
        a = boxes[i]
        for j in keep:
            b = boxes[j]
            width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + plus)
            height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + plus)
            inter = width * height
            areas = [(c[2] - c[0] + plus) * (c[3] - c[1] + plus) for c in (a, b)]
            if classes[i] == classes[j] and inter > threshold * (sum(areas) - inter):
                break
        else:
            keep.append(i)
    return keep
