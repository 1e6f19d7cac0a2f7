"""Dynamic k: a box takes as many of the cheapest candidates of its image as its largest IoUs add up
to, at least one; a candidate that several boxes take goes to the one that it costs least."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dynamic_atss.assigners.everywhere import best_priors, every_pair, listed, taken_by_several
from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.assigners.reference.selection import RESOLVE
from dynamic_atss.types import BACKGROUND, GroundTruth, Priors

Cost = Callable[[Pairs], tuple[Tensor, Tensor]]  # of pairs, and their IoU


def sum_of_largest(box: Tensor, pairs: Pairs, overlap: Tensor, k: int) -> Tensor:
    """(t,) of the k largest IoUs of each box; the arguments are those of `best_priors`."""
    return best_priors(box, pairs, overlap, k)[1].clamp(min=0).sum(1)


def counts(sums: Tensor) -> Tensor:
    """(T,) how many candidates boxes take whose largest IoUs add up to `sums` (T,)."""
    return sums.long().clamp(min=1)


def first_of(best: Pairs, count: Tensor) -> Tensor:
    """(T, k) bool: the first `count` (T,) of the pairs of each box."""
    rank = torch.arange(best.flat.shape[1], device=count.device)
    return best.exists & (rank < count[:, None])


def shared(
    priors: Priors, gt: GroundTruth, cost: Cost, best: Pairs, taken: Tensor, shape: tuple[int, ...]
) -> Pairs:
    """(M,): the pair of each prior of which several boxes have a `taken` pair (T, k), with the box
    of the image that it costs least, be it one that has not taken it.

    Args:
        shape: (N, P).
    """
    several = taken_by_several(best.flat, taken, shape[0] * shape[1]).view(shape)
    most = min(gt.most * best.flat.shape[1] // 2, shape[1])
    prior, exists = listed(several, most)
    place = torch.arange(prior.shape[1], device=prior.device)
    index = torch.full_like(prior, BACKGROUND)
    least = torch.full(prior.shape, torch.inf, device=prior.device, dtype=torch.float64)
    for pairs in every_pair(priors, gt, prior, exists):
        costs, slot = cost(pairs)[0].double(), gt.image[pairs.box] * prior.shape[1] + place
        found, best_of = RESOLVE(
            pairs.box, slot, pairs.exists, pairs.exists, -costs, costs, *prior.shape
        )
        better = (found >= 0) & (best_of < least)
        index, least = found.where(better, index), best_of.where(better, least)
    image = torch.arange(shape[0], device=prior.device)[:, None]
    found = index.clamp(min=0), prior, image * shape[1] + prior, exists & (index >= 0)
    return Pairs(*(x.flatten() for x in found))
