"""Gives each box its cheapest candidates, as many as its IoUs add up to ("dynamic k").

If several boxes take a candidate, it goes to the box of the image with the least cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.all_priors import (
    best_priors,
    every_pair,
    in_several_pairs,
    list_flagged,
    pad_to_vectors,
)
from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.assigners.reference.selection import RESOLVE
from dynamic_atss.types import BACKGROUND, GroundTruth, Priors

Cost = Callable[[Pairs], tuple[Tensor, Tensor]]  # of pairs, and their IoU


def sum_of_largest(box: Tensor, pairs: Pairs, overlap: Tensor, k: int) -> Tensor:
    """Sums the k largest IoUs of each box, (t,). The arguments are those of `best_priors`."""
    return best_priors(box, pairs, overlap, k)[1].clamp(min=0).sum(1)


def positives_per_box(sums: Tensor) -> Tensor:
    """Gives how many candidates boxes take if their largest IoUs have these sums (T,)."""
    return sums.long().clamp(min=1)


def flag_first(best: Pairs, count: Tensor) -> Tensor:
    """Flags the first `count` (T,) pairs of each box, (T, k)."""
    rank = torch.arange(best.flat.shape[1], device=count.device)
    return best.exists & (rank < count[:, None])


def with_cheapest(
    priors: Priors, gt: GroundTruth, cost: Cost, best: Pairs, taken: Tensor, shape: torch.Size
) -> tuple[Pairs, Tensor]:
    """Appends the cheapest pair of each prior that occurs in several `taken` pairs.

    Args:
        best, taken: the pairs of each box, and flags of those that the box takes, (T, k).
        shape: (N, P).

    Returns:
        all pairs in one list (M,), and flags of those that are selected (M,). The last pairs may
        not exist.
    """
    several = in_several_pairs(best.flat, taken, shape.numel()).view(shape)
    most = min(gt.max_boxes * best.flat.shape[1] // 2, shape[1])
    prior, exists = list_flagged(several, most)
    box = _cheapest_box(priors, gt, cost, prior, exists)
    image_index = torch.arange(len(prior), device=prior.device)[:, None]
    added = Pairs(box.clamp(min=0), prior, image_index * shape[1] + prior, exists & (box >= 0))
    both = zip(best._replace(box=best.box.expand_as(best.flat)), added, strict=True)
    pairs = Pairs(*(torch.cat((x.flatten(), y.flatten())) for x, y in both))
    selected = torch.cat((taken.flatten(), added.exists.flatten()))
    pairs = pad_to_vectors(pairs)
    return pairs, F.pad(selected, (0, len(pairs.flat) - len(selected)))


def _cheapest_box(
    priors: Priors, gt: GroundTruth, cost: Cost, prior: Tensor, exists: Tensor
) -> Tensor:
    """Gives the box with the least cost of each listed prior, or BACKGROUND, (N, M)."""
    place = torch.arange(prior.shape[1], device=prior.device)
    index = torch.full_like(prior, BACKGROUND)
    least = torch.full(prior.shape, torch.inf, device=prior.device, dtype=torch.float64)
    for box, inside, flat, known in every_pair(priors, gt, prior, exists):
        costs = cost(Pairs(box, inside, flat, known))[0].double()
        slot = gt.image_index[box] * prior.shape[1] + place
        found, best = RESOLVE(box, slot, known, known, -costs, costs, *prior.shape)
        better = (found >= 0) & (best < least)
        index, least = found.where(better, index), best.where(better, least)
    return index
