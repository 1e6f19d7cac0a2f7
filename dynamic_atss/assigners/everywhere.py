"""Pairs of a box with any prior of its image, for rules whose release ranks them all: some boxes at
a time.

Such a rule computes up to P x T numbers, but keeps no more than `MOST_PAIRS` of them. Most
predicted boxes of an image do not overlap a given box: where the host sees the values without a
wait, it goes on with those that do.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, at, predicted_iou
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import GroundTruth, Predictions, Priors

MOST_PAIRS = 1 << 18  # at once, so that a CPU's cache holds them
ON_GPU = 8  # times as many: each turn starts some dozens of kernels
EXACT = BoxConvention.EXACT  # by which the releases measure predicted boxes


def seen(values: Tensor) -> bool:
    """The host may look at the values: this is no wait for a device, and nothing is compiled."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def every_prior(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """The priors (N, P) of each image, and True for each."""
    shape = predictions.boxes.shape[:2]
    device = predictions.boxes.device
    numbers = torch.arange(shape[1], device=device).expand(shape)
    return numbers, torch.ones(shape, dtype=torch.bool, device=device)


def listed(flags: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The priors that are True in `flags` (N, P), in order: (N, M); and which places of the list
    hold one. M is `most`, of which an image has no more, or the number that one has."""
    count = flags.sum(1, keepdim=True)
    most = min(most, int(count.max())) if seen(flags) else most
    slot = torch.where(flags, flags.cumsum(1) - 1, most).clamp(max=most)
    numbers = torch.arange(flags.shape[1], device=flags.device).expand_as(slot)
    prior = slot.new_zeros(len(slot), most + 1).scatter_(1, slot, numbers)[:, :most]
    return prior, torch.arange(most, device=flags.device) < count


def every_pair(
    priors: Priors, gt: GroundTruth, prior: Tensor, exists: Tensor, box: Tensor | None = None
) -> Iterator[Pairs]:
    """The pairs of boxes with what is listed for their images: (t, M) of t boxes at a time, in
    order; one turn at least, of no box where there is none. The host knows how many turns.

    Args:
        prior, exists: (N, M), as `every_prior` and `listed` give them.
        box: (B,), those to look at; None: all T.
    """
    device = prior.device
    box = torch.arange(len(gt), device=device) if box is None else box
    flat = torch.arange(len(prior), device=device)[:, None] * len(priors) + prior
    most = MOST_PAIRS * (ON_GPU if device.type == "cuda" else 1)
    for part in box.split(max(1, most // max(prior.shape[1], 1))):
        image = gt.image.index_select(0, part)
        yield Pairs(part[:, None], *(x.index_select(0, image) for x in (prior, flat, exists)))


def overlapping(
    priors: Priors, gt: GroundTruth, predictions: Predictions, prior: Tensor, exists: Tensor
) -> Iterator[tuple[Tensor, Pairs, Tensor]]:
    """As `every_pair`, the pairs whose predicted IoU is above 0, where values are `seen`, in one
    list (M,), and all elsewhere; with the boxes (t,) of the turn and the IoUs."""
    for pairs in every_pair(priors, gt, prior, exists):
        box, overlap = pairs.box.squeeze(1), predicted_iou(predictions, gt, pairs, EXACT)
        if seen(overlap):
            place = ((overlap > 0) & pairs.exists).flatten().nonzero().squeeze(1)
            rows = at(box, place.div(overlap.shape[1], rounding_mode="floor"))
            pairs = Pairs(rows, *(at(x.flatten(), place) for x in pairs[1:]))
            overlap = at(overlap.flatten(), place)
        yield box, pairs, overlap


def best_priors(box: Tensor, pairs: Pairs, score: Tensor, k: int) -> tuple[Pairs, Tensor]:
    """The k existing pairs (t, k) of the largest scores of each box (t,), best first, and the
    scores; -inf: no pair. Of equal scores any may come first. The pairs are (t, M), or (M,) by
    box."""
    if pairs.flat.ndim == 1:
        own = torch.searchsorted(box, pairs.box)
        place, prior, flat, exists = BEST_OF_BOX(own, *pairs[1:], score, k, len(box))
        value = at(F.pad(score, (0, 1)), place).where(exists, -torch.inf)
        return Pairs(box[:, None], prior, flat, value > -torch.inf), value
    lacking = (0, max(k - score.shape[1], 0))
    score = F.pad(score.where(pairs.exists, -torch.inf), lacking, value=-torch.inf)
    value, place = score.topk(k, dim=1)
    prior, flat = (F.pad(x, lacking).gather(1, place) for x in (pairs.prior, pairs.flat))
    return Pairs(box[:, None], prior, flat, value > -torch.inf), value


def beside(parts: list[Pairs], dim: int) -> Pairs:
    """The pairs of several lists (t, K) in one: dim 0: of other boxes, 1: of the same boxes."""
    box = torch.cat([x.box for x in parts]) if dim == 0 else parts[0].box
    return Pairs(box, *(torch.cat(x, dim) for x in list(zip(*parts, strict=True))[1:]))


def put(every: Pairs, some: Pairs) -> Pairs:
    """The pairs (T, K) of all boxes, in which some have others, (t, K)."""
    box, parts = some.box.squeeze(1), zip(every[1:], some[1:], strict=True)
    return Pairs(every.box, *(x.index_copy(0, box, y) for x, y in parts))


def those(flags: Tensor) -> Tensor:
    """The numbers of what is True in `flags` (T,) where values are `seen`, and all elsewhere."""
    if seen(flags):
        return flags.nonzero().squeeze(1)
    return torch.arange(len(flags), device=flags.device)


def marked(places: Tensor, which: Tensor, count: int) -> Tensor:
    """(count,) bool: True at the `places` of which `which`, a bool of their shape, is True."""
    flags = torch.zeros(count + 1, dtype=torch.bool, device=places.device)
    return flags.scatter_(0, torch.where(which, places, count).flatten(), True)[:count]


def taken_by_several(flat: Tensor, taken: Tensor, count: int) -> Tensor:
    """(count,) bool: the priors that more than one of the `taken` pairs has; flat and taken are of
    one shape."""
    times = torch.zeros(count, device=flat.device)
    return times.scatter_add_(0, flat.flatten(), taken.flatten().float()) > 1
