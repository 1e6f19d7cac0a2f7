"""Computes assignment rules over all P x T pairs of one image, like their releases.

The code is written from the papers and the known behaviour of the releases: plain PyTorch,
vectorised over boxes where the releases are. P: priors, T: boxes, C: classes, L: levels. Matrices
are (P, T). Each rule returns the gt index (P,).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.rules.rfla import FIELDS
from dynamic_atss.assigners.rules.simd import VISDRONE
from dynamic_atss.boxes import BoxConvention, centers, giou, iou, sides
from dynamic_atss.types import Priors


class Image(NamedTuple):
    """Ground truth and predictions of one image with T > 0 boxes."""

    priors: Priors
    boxes: Tensor  # (T, 4)
    classes: Tensor  # (T,)
    predicted: Tensor  # (P, 4)
    logits: Tensor  # (P, C)


def atss(image: Image) -> Tensor:
    anchor = _anchor_iou(image)
    return _adaptive(image, [anchor], anchor)


def dynamic_atss(image: Image) -> Tensor:
    anchor, predicted = _anchor_iou(image), _predicted_iou(image)
    return _adaptive(image, [predicted, anchor], predicted + anchor)


def _adaptive(image: Image, terms: list[Tensor], score: Tensor, topk: int = 9) -> Tensor:
    distance, first, candidates = _distance(image), 0, []
    for level in image.priors.levels:
        part = distance[first : first + level.locations]
        k = min(topk, level.locations)
        candidates.append(first + part.topk(k, dim=0, largest=False).indices)
        first += level.locations
    candidate = torch.cat(candidates)  # (K, T)
    at = [term.gather(0, candidate) for term in terms]
    threshold = sum(x.mean(0) for x in at) + sum(x.std(0) for x in at)
    selected = _inside(image, candidate) & (score.gather(0, candidate) >= threshold)
    return _best(score, candidate, selected)


def topk(image: Image, k: int = 9) -> Tensor:
    overlap, distance = _anchor_iou(image), _distance(image)
    candidate = (overlap - distance / distance.max() / 1000).topk(k, dim=0).indices
    return _best(overlap, candidate, _inside(image, candidate))


def max_iou(image: Image, positive: float = 0.5, negative: float = 0.4) -> Tensor:
    overlap = _anchor_iou(image)
    best, index = overlap.max(1)
    best_of_box = overlap.max(0).values
    claimed = ((overlap == best_of_box) & (overlap > 0)).any(1)
    index = torch.where(claimed | (best >= positive), index, -2)
    return torch.where((index == -2) & (best < negative), -1, index)


def fcos(image: Image) -> Tensor:
    distances = _sides(image)  # (P, T, 4)
    farthest = distances.amax(-1)
    low = farthest.new_tensor((-1, 64, 128, 256, 512))[image.priors.level, None]
    high = farthest.new_tensor((64, 128, 256, 512, torch.inf))[image.priors.level, None]
    fits = (distances.amin(-1) > 0) & (farthest >= low) & (farthest <= high)
    size = BoxConvention.LEGACY.area(image.boxes).expand(fits.shape)
    smallest, index = torch.where(fits, size, torch.inf).min(1)
    return torch.where(smallest.isfinite(), index, -1)


def dsla(image: Image) -> Tensor:
    """Relaxation 0.2, core zone."""
    distances = _sides(image)  # (P, T, 4)
    inside, size = distances.amin(-1) > 0, distances.amax(-1)
    left, top, right, bottom = distances.clamp(min=0).unbind(-1)
    ratio = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=0.01)
    ratio = ratio * (torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=0.01))
    half = image.priors.strides[:, None, None] / 2
    away = (image.priors.centers[:, None] - centers(image.boxes)).abs()
    score = torch.where((away <= half).all(-1), 1.0, ratio.sqrt())
    level = image.priors.level[:, None]
    begin, end = (0, 64, 128, 256, 512), (64, 128, 256, 512, 1e8)
    ends = ([int(0.8 * x) for x in begin], begin, end, [int(1.2 * x) for x in end])
    lowest, low, high, highest = (size.new_tensor(x)[level] for x in ends)
    below = (size - lowest) / (low - lowest).clamp(min=0.01)
    above = (highest - size) / (highest - high).clamp(min=0.01)
    fit = torch.where(size < low, below, torch.where(size > high, above, 1.0)).clamp(min=0)
    best, index = torch.where(inside, score * fit, 0.0).max(1)
    return torch.where(best > 0, index, -1)


def task_aligned(image: Image, k: int = 13) -> Tensor:
    """Takes the best of all points, then drops those outside the box."""
    overlap = iou(image.predicted[:, None], image.boxes[None])
    alignment = image.logits.sigmoid()[:, image.classes] * overlap**6
    candidate = alignment.topk(min(k, len(alignment)), dim=0).indices
    selected = _inside(image, candidate) & (alignment.gather(0, candidate) > 0)
    return _best(overlap, candidate, selected)


def simota(image: Image, radius: float = 1.5, k: int = 10) -> Tensor:
    """Repeats scores and one-hot classes for every pair, (V, T, C), for V points near a centre."""
    near, boxes = _near(image, radius), len(image.boxes)
    valid = near.any(1).nonzero().squeeze(1)
    scores = image.logits[valid].sigmoid()[:, None].repeat(1, boxes, 1)
    target = F.one_hot(image.classes, scores.shape[-1]).float()[None].repeat(len(valid), 1, 1)
    cost = F.binary_cross_entropy(scores, target, reduction="none").sum(-1)
    del scores, target
    return _of_costs(image, valid, near[valid], cost, k)


def simota_by_logits(image: Image, radius: float = 1.5, k: int = 10) -> Tensor:
    """Computes `simota` without the tensor (V, T, C)."""
    near = _near(image, radius)
    valid = near.any(1).nonzero().squeeze(1)
    cost = F.softplus(image.logits[valid]).sum(-1)[:, None] - image.logits[valid][:, image.classes]
    return _of_costs(image, valid, near[valid], cost, k)


def _of_costs(image: Image, valid: Tensor, near: Tensor, cost: Tensor, k: int) -> Tensor:
    overlap = iou(image.predicted[valid, None], image.boxes[None])
    cost = (cost - 3 * (overlap + 1e-8).log()).double() + 1e6 * ~near
    matched = _cheapest(cost, overlap, k)
    index = torch.where(matched.any(1), matched.int().argmax(1), -1)
    index = torch.where(matched.sum(1) > 1, cost.argmin(1), index)
    return index.new_full((len(image.priors),), -1).scatter_(0, valid, index)


def _cheapest(cost: Tensor, overlap: Tensor, k: int) -> Tensor:
    """Flags (V, T) as many points of a box as its k largest IoUs sum to; loops like the release."""
    counts = overlap.topk(min(k, len(overlap)), dim=0).values.sum(0).int().clamp(min=1)
    matched = torch.zeros_like(cost, dtype=torch.bool)
    for t, count in enumerate(counts.tolist()):
        matched[cost[:, t].topk(count, largest=False).indices, t] = True
    return matched


def poto(image: Image, alpha: float = 0.8, radius: float = 1.5) -> Tensor:
    """Matches all priors with all boxes on the host, like the release.

    Drops pairs whose prior is not in the region of its box (score -1).
    """
    from scipy.optimize import linear_sum_assignment

    score = image.logits[:, image.classes].sigmoid()
    overlap = iou(image.predicted[:, None], image.boxes[None])
    fits = (_sides(image).amin(-1) > 0) & _near(image, radius)
    quality = torch.where(fits, score ** (1 - alpha) * overlap**alpha, -1.0)
    matched = linear_sum_assignment(quality.t().cpu().numpy(), maximize=True)
    box, prior = (torch.from_numpy(x).to(fits.device) for x in matched)
    box = torch.where(fits[prior, box], box, -1)
    return box.new_full((len(fits),), -1).scatter_(0, prior, box)


def paa(image: Image, k: int = 9) -> Tensor:
    """Loops over boxes and levels, like the release; every box searches all priors."""
    index = max_iou(image, 0.1, 0.1)
    learner = (index >= 0).nonzero().squeeze(1)
    box, level = index[learner], image.priors.level[learner]
    loss = _focal(image.logits[learner], image.classes[box])
    loss = loss + 1 - giou(image.predicted[learner], image.boxes[box])
    result = torch.full_like(index, -1)
    for t in range(len(image.boxes)):
        parts = []
        for i in range(len(image.priors.levels)):
            here = ((box == t) & (level == i)).nonzero().squeeze(1)
            parts.append(here[loss[here].topk(min(k, len(here)), largest=False).indices])
        candidate = torch.cat(parts)
        candidate = candidate[loss[candidate].argsort()]
        result[learner[candidate[: _low_component(loss[candidate])]]] = t
    return result


def _focal(logits: Tensor, classes: Tensor, alpha: float = 0.25) -> Tensor:
    """Returns the focal loss (M,) over all classes, alpha 0.25, gamma 2."""
    target, p = F.one_hot(classes, logits.shape[-1]).float(), logits.sigmoid()
    weight = target * alpha * (1 - p) ** 2 + (1 - target) * (1 - alpha) * p**2
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weight * entropy).sum(1)


def _low_component(loss: Tensor) -> int:
    """Counts the sorted losses up to the most likely one of the low component, inclusive."""
    from sklearn.mixture import GaussianMixture

    if len(loss) < 2:
        return len(loss)
    x = loss.double().cpu().numpy()[:, None]
    start = {"weights_init": [0.5, 0.5], "precisions_init": [[[1.0]], [[1.0]]]}
    mixture = GaussianMixture(2, means_init=[x[0], x[-1]], random_state=0, **start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low = torch.from_numpy(mixture.fit_predict(x)) == 0
    if not low.any():
        return len(loss)
    likelihood = torch.from_numpy(mixture.score_samples(x))
    return int(torch.where(low, likelihood, -torch.inf).argmax()) + 1


def _anchor_iou(image: Image) -> Tensor:
    return BoxConvention.LEGACY.iou(image.priors.boxes[:, None], image.boxes[None])


def _predicted_iou(image: Image) -> Tensor:
    return BoxConvention.LEGACY.iou(image.predicted[:, None], image.boxes[None])


def _sides(image: Image) -> Tensor:
    points = image.priors.centers[:, None].expand(-1, len(image.boxes), -1)
    return sides(points, image.boxes.expand(len(points), -1, -1))


def _distance(image: Image) -> Tensor:
    return (image.priors.centers[:, None] - centers(image.boxes)).square().sum(-1).sqrt()


def _near(image: Image, radius: float) -> Tensor:
    away = (image.priors.centers[:, None] - centers(image.boxes)).abs().amax(-1)
    return away < radius * image.priors.strides[:, None]


def rfla(image: Image) -> Tensor:
    index = image.classes.new_full((len(image.priors),), -1)
    for k, scale in ((3, 1.0), (1, 0.9)):
        similar = _field_similarity(image, scale)
        taken = similar >= similar.topk(min(k, len(similar)), dim=0).values[-1]
        index = torch.where(index >= 0, index, _last(taken))
    return torch.where((index < 0) & (similar.amax(1) >= 0.8), -2, index)


def _field_similarity(image: Image, scale: float) -> Tensor:
    """Returns the similarity (P, T) of boxes with the receptive fields of locations."""
    field = image.boxes.new_tensor(FIELDS)[image.priors.level, None] * scale + 1e-6
    x, y = (image.priors.centers[:, None] - centers(image.boxes)).unbind(-1)
    w, h = (image.boxes[:, 2:] - image.boxes[:, :2] + 1 + 1e-6).square().unbind(-1)
    f = field.square()
    spread = f / w + f / h + (w / f).log() + (h / f).log() - 2
    return 1 / (1 + (spread + 4 * x.square() / w + 4 * y.square() / h) / 2)


def simd(image: Image) -> Tensor:
    """Computes SimD with the means of the release."""
    anchors, means = image.priors.boxes[:, None], image.boxes.new_tensor(VISDRONE)
    side_offset = 1 + 1e-6
    side, other = (b[..., 2:] - b[..., :2] + side_offset for b in (image.boxes, anchors))
    unit = (side + other) / means
    away = ((centers(image.boxes) - centers(anchors)) / unit).square().sum(-1).sqrt()
    similar = (-(away + ((side - other) / unit).square().sum(-1).sqrt())).exp()
    best, index = similar.max(1)
    best_of_box = similar.amax(0)
    claimed = _last((similar == best_of_box) & (best_of_box >= 0.3))
    index = torch.where(claimed >= 0, claimed, torch.where(best >= 0.7, index, -2))
    return torch.where((index == -2) & (best < 0.3), -1, index)


def _last(taken: Tensor) -> Tensor:
    """Returns the last box (P,) that selects a prior in (P, T)."""
    order = torch.arange(1, taken.shape[1] + 1, device=taken.device)
    return torch.where(taken, order, 0).amax(1) - 1


def _inside(image: Image, candidate: Tensor) -> Tensor:
    """Tests for (K, T) priors whether each lies inside its box, pair by pair like the releases."""
    boxes = image.boxes.expand(len(candidate), -1, -1)
    return sides(image.priors.centers[candidate], boxes).amin(-1) > 0.01


def _best(score: Tensor, candidate: Tensor, selected: Tensor) -> Tensor:
    """Returns for each prior the selected box with the largest score."""
    kept = torch.where(selected, score.gather(0, candidate), -torch.inf)
    best, index = torch.full_like(score, -torch.inf).scatter_(0, candidate, kept).max(dim=1)
    return torch.where(best > -torch.inf, index, -1)


Rule = Callable[[Image], Tensor]
DENSE: dict[str, Rule] = {
    "dynamic_atss": dynamic_atss,
    "atss": atss,
    "fcos": fcos,
    "dsla": dsla,
    "max_iou": max_iou,
    "topk": topk,
    "task_aligned": task_aligned,
    "simota": simota,
    "paa": paa,
    "poto": poto,
    "rfla": rfla,
    "simd": simd,
}
# Used for the labels if the form of the release would need too much memory.
SAME: dict[str, Rule] = {"simota": simota_by_logits}
# Number of float32 matrices (P, T) in memory at once, measured; SimOTA: up to three of 80 classes.
MATRICES = dict.fromkeys(DENSE, 9) | {"dsla": 19, "simota": 240}
