"""Pairs boxes with all priors of their image, a few boxes at a time.

Rules need this if their release ranks all priors. Such a rule computes up to P x T numbers, but
holds at most `MAX_PAIRS` of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.types import GroundTruth, Predictions, Priors

MAX_PAIRS = 1 << 21  # 8 MB of float32


def every_prior(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Gives the priors of each image (N, P), and flags that are all True (N, P)."""
    shape = predictions.boxes.shape[:2]
    device = predictions.boxes.device
    numbers = torch.arange(shape[1], device=device).expand(shape)
    return numbers, torch.ones(shape, dtype=torch.bool, device=device)


def list_flagged(flags: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Lists the first `most` flagged priors of each image in order.

    Args:
        flags: (N, P) bool.

    Returns:
        the priors (N, most), and which places of the list hold one (N, most).
    """
    slot = torch.where(flags, flags.cumsum(1) - 1, most).clamp(max=most)
    numbers = torch.arange(flags.shape[1], device=flags.device).expand_as(slot)
    prior = slot.new_zeros(len(slot), most + 1).scatter_(1, slot, numbers)[:, :most]
    place = torch.arange(most, device=flags.device)
    return prior, place < flags.sum(1, keepdim=True)


def every_pair(priors: Priors, gt: GroundTruth, prior: Tensor, exists: Tensor) -> Iterator[Pairs]:
    """Pairs every box with the listed priors of its image, t boxes at a time: (t, M).

    Gives at least one item, without boxes if there are none. The number of items is known without
    waiting for the device.

    Args:
        prior, exists: (N, M) from `every_prior` or `list_flagged`.
    """
    boxes, step = len(gt), max(1, MAX_PAIRS // max(prior.shape[1], 1))
    for first in range(0, max(boxes, 1), step):
        image = gt.image_index[first : first + step]
        box = torch.arange(first, min(first + step, boxes), device=image.device)[:, None]
        of_box = prior[image]
        yield Pairs(box, of_box, image[:, None] * len(priors) + of_box, exists[image])


def best_priors(pairs: Pairs, score: Tensor, k: int) -> Pairs:
    """Gives the min(k, M) pairs with the largest scores of each row (t, M), best first.

    A score of -inf marks no pair. Equal scores have no fixed order.
    """
    score = score.where(pairs.exists, -torch.inf)
    value, place = score.topk(min(k, score.shape[1]), dim=1)
    prior, flat = pairs.prior.gather(1, place), pairs.flat.gather(1, place)
    return Pairs(pairs.box, prior, flat, value > -torch.inf)


def concatenated(parts: list[Pairs], dim: int) -> Pairs:
    """Concatenates lists of pairs (t, K). dim 0: lists of other boxes, 1: of the same boxes."""
    box = torch.cat([x.box for x in parts]) if dim == 0 else parts[0].box
    return Pairs(box, *(torch.cat(x, dim) for x in list(zip(*parts, strict=True))[1:]))


def flag_places(places: Tensor, chosen: Tensor, count: int) -> Tensor:
    """Gives flags (count,) that are True at the `chosen` of the `places`.

    Args:
        places, chosen: int64 and bool of the same shape.
    """
    flags = torch.zeros(count + 1, dtype=torch.bool, device=places.device)
    return flags.scatter_(0, torch.where(chosen, places, count).flatten(), True)[:count]


def in_several_pairs(flat: Tensor, taken: Tensor, count: int) -> Tensor:
    """Flags the priors that occur in more than one of the `taken` pairs, (count,).

    Args:
        flat, taken: int64 and bool of the same shape.
    """
    times = torch.zeros(count, device=flat.device)
    return times.scatter_add_(0, flat.flatten(), taken.flatten().float()) > 1
