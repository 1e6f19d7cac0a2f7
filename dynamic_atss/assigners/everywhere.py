"""Pairs of a box with any prior of its image, for rules whose release ranks them all: some boxes at
a time.

Such a rule computes up to P x T numbers, but keeps no more than `MOST_PAIRS` of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.types import GroundTruth, Predictions, Priors

MOST_PAIRS = 1 << 21  # at once: 8 MB of float32


def every_prior(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """The priors (N, P) of each image, and True for each."""
    shape = predictions.boxes.shape[:2]
    device = predictions.boxes.device
    numbers = torch.arange(shape[1], device=device).expand(shape)
    return numbers, torch.ones(shape, dtype=torch.bool, device=device)


def listed(flags: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The first `most` priors that are True in `flags` (N, P), image by image, in order: (N, most);
    and which places of the list hold one."""
    slot = torch.where(flags, flags.cumsum(1) - 1, most).clamp(max=most)
    numbers = torch.arange(flags.shape[1], device=flags.device).expand_as(slot)
    prior = slot.new_zeros(len(slot), most + 1).scatter_(1, slot, numbers)[:, :most]
    place = torch.arange(most, device=flags.device)
    return prior, place < flags.sum(1, keepdim=True)


def every_pair(priors: Priors, gt: GroundTruth, prior: Tensor, exists: Tensor) -> Iterator[Pairs]:
    """The pairs of every box with what is listed for its image: (t, M) of t boxes at a time, in
    order; one turn at least, of no box where there is none. The host knows how many turns.

    Args:
        prior, exists: (N, M), as `every_prior` and `listed` give them.
    """
    boxes, step = len(gt), max(1, MOST_PAIRS // max(prior.shape[1], 1))
    for first in range(0, max(boxes, 1), step):
        image = gt.image[first : first + step]
        box = torch.arange(first, min(first + step, boxes), device=image.device)[:, None]
        own = prior[image]
        yield Pairs(box, own, image[:, None] * len(priors) + own, exists[image])


def best_priors(pairs: Pairs, score: Tensor, k: int) -> Pairs:
    """The min(k, M) existing pairs of the largest scores of each row (t, M), best first; -inf: no
    pair. Of equal scores any may come first."""
    score = score.where(pairs.exists, -torch.inf)
    value, place = score.topk(min(k, score.shape[1]), dim=1)
    prior, flat = pairs.prior.gather(1, place), pairs.flat.gather(1, place)
    return Pairs(pairs.box, prior, flat, value > -torch.inf)


def beside(parts: list[Pairs], dim: int) -> Pairs:
    """The pairs of several lists (t, K) in one: dim 0: of other boxes, 1: of the same boxes."""
    box = torch.cat([x.box for x in parts]) if dim == 0 else parts[0].box
    return Pairs(box, *(torch.cat(x, dim) for x in list(zip(*parts, strict=True))[1:]))


def marked(places: Tensor, which: Tensor, count: int) -> Tensor:
    """(count,) bool: True at the `places` of which `which`, a bool of their shape, is True."""
    flags = torch.zeros(count + 1, dtype=torch.bool, device=places.device)
    return flags.scatter_(0, torch.where(which, places, count).flatten(), True)[:count]


def taken_by_several(flat: Tensor, taken: Tensor, count: int) -> Tensor:
    """(count,) bool: the priors that more than one of the `taken` pairs has; flat and taken are of
    one shape."""
    times = torch.zeros(count, device=flat.device)
    return times.scatter_add_(0, flat.flatten(), taken.flatten().float()) > 1
