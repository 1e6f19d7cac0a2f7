"""Pairs boxes with all priors of their image, a few boxes at a time.

A rule needs this if its release ranks all priors. It computes up to P x T numbers, but holds only
about `MAX_PAIRS` of them at once. Most predictions do not overlap a given box. Where the host can
read the values without waiting, only overlapping pairs are used further.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from dynamic_atss.assigners.pairs import Pairs, predicted_iou, take
from dynamic_atss.assigners.reference.inside import full_vectors
from dynamic_atss.assigners.reference.selection import BEST_OF_BOX
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.types import GroundTruth, Predictions, Priors

MAX_PAIRS = 1 << 18  # so many stay in a CPU's cache
ON_GPU = 8  # times as many on a GPU, because each part launches dozens of kernels
EXACT = BoxConvention.EXACT  # of predicted boxes, as in the releases


def readable(values: Tensor) -> bool:
    """Returns True if the host can read the values without waiting for a device."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def every_prior(predictions: Predictions) -> tuple[Tensor, Tensor]:
    """Gives the priors of each image (N, P), and flags that are all True (N, P)."""
    shape = predictions.boxes.shape[:2]
    device = predictions.boxes.device
    numbers = torch.arange(shape[1], device=device).expand(shape)
    return numbers, torch.ones(shape, dtype=torch.bool, device=device)


def list_flagged(flags: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Lists the flagged priors of each image in order.

    Args:
        flags: (N, P) bool.
        most: an upper limit of the number of flags in an image. The length M of the lists is this
            number. If the flags are readable, M is the true maximum, rounded up to whole vectors.

    Returns:
        the priors (N, M), and which places of the list hold one (N, M).
    """
    count = flags.sum(1, keepdim=True)
    if readable(flags):
        most = full_vectors(int(count.max()))
    slot = torch.where(flags, flags.cumsum(1) - 1, most).clamp(max=most)
    numbers = torch.arange(flags.shape[1], device=flags.device).expand_as(slot)
    prior = slot.new_zeros(len(slot), most + 1).scatter_(1, slot, numbers)[:, :most]
    return prior, torch.arange(most, device=flags.device) < count


def every_pair(
    priors: Priors, gt: GroundTruth, prior: Tensor, exists: Tensor, box: Tensor | None = None
) -> Iterator[Pairs]:
    """Pairs boxes with the listed priors of their images, t boxes at a time: (t, M).

    Gives at least one item. If there are no boxes, this item has none. The number of items is known
    without waiting for the device.

    Args:
        prior, exists: (N, M) from `every_prior` or `list_flagged`.
        box: the boxes (B,); None: all T.
    """
    device = prior.device
    box = torch.arange(len(gt), device=device) if box is None else box
    flat = torch.arange(len(prior), device=device)[:, None] * len(priors) + prior
    most = MAX_PAIRS * (ON_GPU if device.type == "cuda" else 1)
    for part in box.split(max(1, most // max(prior.shape[1], 1))):
        image_index = gt.image_index.index_select(0, part)
        yield Pairs(part[:, None], *(x.index_select(0, image_index) for x in (prior, flat, exists)))


def overlapping_pairs(
    priors: Priors, gt: GroundTruth, predictions: Predictions, prior: Tensor, exists: Tensor
) -> Iterator[tuple[Tensor, Pairs, Tensor]]:
    """Gives the pairs of `every_pair` whose predicted IoU is above 0.

    Returns:
        the boxes (t,), their pairs in one list (M,), and the IoUs (M,). The last pairs may not
        exist. If the IoUs are not readable, the pairs are all (t, M), with their IoUs.
    """
    for pairs in every_pair(priors, gt, prior, exists):
        box, overlap = pairs.box.squeeze(1), predicted_iou(predictions, gt, pairs, EXACT)
        if readable(overlap):
            place = ((overlap > 0) & pairs.exists).flatten().nonzero().squeeze(1)
            of_pair = take(box, place.div(overlap.shape[1], rounding_mode="floor"))
            pairs = pad_to_vectors(Pairs(of_pair, *(take(x.flatten(), place) for x in pairs[1:])))
            overlap = F.pad(take(overlap.flatten(), place), (0, len(pairs.flat) - len(place)))
        yield box, pairs, overlap


def pad_to_vectors(pairs: Pairs) -> Pairs:
    """Extends a list (M,) on a CPU to whole vectors by pairs that do not exist, see `VECTOR`."""
    missing = full_vectors(len(pairs.flat)) - len(pairs.flat)
    if not missing or not readable(pairs.flat):
        return pairs
    box, prior, flat = (torch.cat((x, x[-1:].expand(missing))) for x in pairs[:3])  # stays sorted
    return Pairs(box, prior, flat, F.pad(pairs.exists, (0, missing)))


def best_priors(box: Tensor, pairs: Pairs, score: Tensor, k: int) -> tuple[Pairs, Tensor]:
    """Gives the k pairs with the largest scores of each box (t, k), best first, and the scores.

    A score of -inf marks no pair. Equal scores have no fixed order.

    Args:
        box: (t,) in increasing order.
        pairs: (t, M), or (M,) sorted by box.
        score: (t, M) or (M,).
    """
    if pairs.flat.ndim == 1:
        of_pair = torch.searchsorted(box, pairs.box)
        place, prior, flat, exists = BEST_OF_BOX(of_pair, *pairs[1:], score, k, len(box))
        value = take(F.pad(score, (0, 1)), place).where(exists, -torch.inf)
        return Pairs(box[:, None], prior, flat, value > -torch.inf), value
    lacking = (0, max(k - score.shape[1], 0))
    score = F.pad(score.where(pairs.exists, -torch.inf), lacking, value=-torch.inf)
    value, place = score.topk(k, dim=1)
    prior, flat = (F.pad(x, lacking).gather(1, place) for x in (pairs.prior, pairs.flat))
    return Pairs(box[:, None], prior, flat, value > -torch.inf), value


def concatenated(parts: list[Pairs], dim: int) -> Pairs:
    """Concatenates lists of pairs (t, K).

    Args:
        dim: 0 for lists of different boxes, 1 for lists of the same boxes.
    """
    box = torch.cat([x.box for x in parts]) if dim == 0 else parts[0].box
    return Pairs(box, *(torch.cat(x, dim) for x in list(zip(*parts, strict=True))[1:]))


def replaced(pairs: Pairs, some: Pairs) -> Pairs:
    """Replaces the pairs (T, K) of some boxes by others (t, K)."""
    box, parts = some.box.squeeze(1), zip(pairs[1:], some[1:], strict=True)
    return Pairs(pairs.box, *(x.index_copy(0, box, y) for x, y in parts))


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
