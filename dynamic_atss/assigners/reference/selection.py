"""Selects the best pairs of a box, and the best pair of a prior."""

from __future__ import annotations

import torch
from torch import Tensor

from dynamic_atss.ops.library import define
from dynamic_atss.types import BACKGROUND


def best_of_box(
    box: Tensor, prior: Tensor, flat: Tensor, exists: Tensor, score: Tensor, k: int, boxes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gives the k best pairs of each box, best first. In a tie, takes the first pair.

    Returns:
        places among the pairs, prior, flat and exists, (T, k) each.
    """
    score = torch.where(exists, score, -torch.inf)
    order = score.flatten().argsort(descending=True, stable=True)
    # This sorts by box. The sort is stable, so it keeps the order by score.
    box = box.expand_as(score).flatten().contiguous()
    order = order[box[order].argsort(stable=True)]
    rank = torch.arange(len(order), device=order.device) - torch.searchsorted(box, box)
    kept = (rank < k) & exists.take(order)
    place = torch.where(kept, box * k + rank, boxes * k)  # other pairs go to an additional place
    found = order.new_full((boxes * k + 1,), -1).scatter_(0, place, order)
    found = found[: boxes * k].view(boxes, k)
    places = found.clamp(min=0)
    if not score.numel():
        return places, places.clone(), places.clone(), found >= 0
    return places, prior.take(places), flat.take(places), found >= 0


def _fake_best_of_box(
    box: Tensor, prior: Tensor, flat: Tensor, exists: Tensor, score: Tensor, k: int, boxes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = (boxes, k)
    places, best, best_flat = (box.new_empty(shape) for _ in range(3))
    return places, best, best_flat, box.new_empty(shape, dtype=torch.bool)


def resolve(
    box: Tensor,
    flat: Tensor,
    exists: Tensor,
    selected: Tensor,
    score: Tensor,
    quality: Tensor,
    images: int,
    priors: int,
) -> tuple[Tensor, Tensor]:
    """Gives each prior the box of its selected pair with the largest score, then the lowest index.

    Returns:
        gt index or BACKGROUND, and quality, (N, P) each.
    """
    slots = images * priors
    gt, score = box.expand_as(selected).flatten(), score.flatten()
    none = torch.iinfo(gt.dtype).max
    # Other pairs write to an additional last slot. Boolean indexing would wait for the device.
    flat = torch.where(selected & exists, flat, slots).flatten()
    best = score.new_full((slots + 1,), -torch.inf).scatter_reduce_(0, flat, score, "amax")
    flat = torch.where(score >= best.index_select(0, flat), flat, slots)
    lowest = gt.new_full((slots + 1,), none).scatter_reduce_(0, flat, gt, "amin")
    flat = torch.where(gt == lowest.index_select(0, flat), flat, slots)
    index = lowest.fill_(BACKGROUND).scatter_(0, flat, gt)[:slots]
    won = quality.new_zeros(slots + 1).scatter_(0, flat, quality.flatten())[:slots]
    return index.view(images, priors), won.view(images, priors)


def _fake_resolve(
    box: Tensor,
    flat: Tensor,
    exists: Tensor,
    selected: Tensor,
    score: Tensor,
    quality: Tensor,
    images: int,
    priors: int,
) -> tuple[Tensor, Tensor]:
    shape = (images, priors)
    return box.new_empty(shape), quality.new_empty(shape)


BEST_OF_BOX = define(
    "best_of_box(Tensor box, Tensor prior, Tensor flat, Tensor exists, Tensor score, int k,"
    " int boxes) -> (Tensor, Tensor, Tensor, Tensor)",
    best_of_box,
    _fake_best_of_box,
)
RESOLVE = define(
    "resolve(Tensor box, Tensor flat, Tensor exists, Tensor selected, Tensor score,"
    " Tensor quality, int images, int priors) -> (Tensor, Tensor)",
    resolve,
    _fake_resolve,
)
