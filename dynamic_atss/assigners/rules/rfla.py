"""Defines RFLA, which selects positives by the distance of a box and a location's receptive field.

Xu et al., ECCV 2022, arXiv 2208.08738.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dynamic_atss.assigners import check
from dynamic_atss.assigners.base import (
    Pairs,
    box_sides,
    center_offsets,
    centerness_of_tiny,
    has_pair,
    note,
    resolve,
    take,
)
from dynamic_atss.assigners.nearest import surrounding_candidates
from dynamic_atss.assigners.ranges import constant, priors_within
from dynamic_atss.boxes import centers
from dynamic_atss.types import IGNORE, Assignment, GroundTruth, Predictions, Priors

FIELDS = (45.5, 133.5, 213.5, 277.5, 405.5)  # half the receptive fields of a ResNet-50's P3 to P7
EPS = 1e-6  # added to widths, as published
NEAR = 0.8  # with this similarity or more, other priors are ignored, as published
MIDDLE = 0.72  # share of a box's width that contains all such locations
TIES = 3  # so many other locations may be equally near to a centre


class RFLA:
    """Assigns each box its most similar locations in two rounds.

    Similarity = 1 / (1 + distance) of two Gaussians, the box and the receptive field of the
    location. In the first round every box takes topk[0] locations. In the second round it takes
    topk[1] of the remaining ones, with fields `decay` times as wide. All equally similar locations
    count. Other locations with a similarity of 0.8 or more are ignored.

    Quality = centerness with distances of at least 0.01 pixels, because tiny boxes have positives
    outside.

    The release narrows the fields again for each further image of a batch. This rule does not. The
    release's FCOS head treats ignored locations as background.

    Args:
        topk: locations of a box in the first and in the second round.
        decay: factor of the fields in the second round.
        fields: side of the effective receptive field by level, in pixels.
        distance: "kl" (Kullback-Leibler divergence) or "wasserstein".
        conflicts: which of several boxes gets a prior: the "last" of the image, as released, or
            the "best", which is the most similar.

    Raises:
        ValueError: an argument has an invalid value.
    """

    soft_labels = False
    quality_name = "centerness"
    needs_size = False

    def __init__(
        self,
        topk: Sequence[int] = (3, 1),
        decay: float = 0.9,
        fields: Sequence[float] = FIELDS,
        distance: str = "kl",
        conflicts: str = "last",
    ) -> None:
        check.two_numbers(topk=topk)
        self.first, self.second = topk
        check.integer(1, topk_0=self.first, topk_1=self.second)
        check.at_least(0.01, decay=decay)
        check.increasing(fields=fields)
        check.one_of(("kl", "wasserstein"), distance=distance)
        check.one_of(("last", "best"), conflicts=conflicts)
        self.decay, self.fields = decay, tuple(map(float, fields))
        self.distance, self.conflicts = distance, conflicts

    @torch.no_grad()
    def __call__(self, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Assignment:
        # propose
        pairs = surrounding_candidates(priors, gt, max(self.first, self.second) + TIES)
        quality = centerness_of_tiny(box_sides(priors, gt, pairs))
        shape = predictions.boxes.shape[:2]
        rounds = []
        for k, scale in ((self.first, 1.0), (self.second, self.decay)):
            # score
            score = self._similarity(priors, gt, pairs, scale).where(pairs.exists, 0.0)
            # select
            k = min(k * priors.per_location, score.shape[1])
            threshold = score.topk(k, dim=1).values[:, -1:]
            selected = score >= threshold
            note(similarity=score, k_th_similarity=threshold, among_the_k=selected)
            # resolve
            order = pairs.box.to(score.dtype) if self.conflicts == "last" else score
            rounds.append(resolve(pairs, selected, order.expand_as(score), quality, shape))
        first, second = rounds
        index = torch.where(first.positive, first.gt_index, second.gt_index)
        near = self._near(priors, gt, shape) & (index < 0)
        found = torch.where(first.positive, first.quality, second.quality)
        return replace(first, gt_index=torch.where(near, IGNORE, index), quality=found)

    def _near(self, priors: Priors, gt: GroundTruth, shape: tuple[int, ...]) -> Tensor:
        """Flags the priors with a similarity of NEAR or more to some box, (N, P)."""
        half = (gt.boxes[:, 2:] - gt.boxes[:, :2]) * MIDDLE / 2
        region = torch.cat((centers(gt.boxes) - half, centers(gt.boxes) + half), dim=1)
        pairs = priors_within(priors, gt, region[:, None], scale=MIDDLE)
        similar = self._similarity(priors, gt, pairs, self.decay) >= NEAR
        return has_pair(pairs, similar, shape)

    def _similarity(self, priors: Priors, gt: GroundTruth, pairs: Pairs, scale: float) -> Tensor:
        """Gives the similarity of each pair in (0, 1], (T, K) or (M,)."""
        level = take(priors.level, pairs.prior)
        field = constant(self.fields, gt.boxes.device).to(gt.boxes.dtype)[level] * scale + EPS
        x, y = center_offsets(priors, gt, pairs)
        sides = gt.boxes[:, 2:] - gt.boxes[:, :2] + (gt.convention.value + EPS)
        width, height = sides[pairs.box].unbind(-1)
        if self.distance == "wasserstein":
            away = x.square() + y.square() + EPS
            return 1 / (1 + away + ((width - field).square() + (height - field).square()) / 4)
        (w, h), f = (width.square(), height.square()), field.square()
        spread = f / w + f / h + (w / f).log() + (h / f).log() - 2
        return 1 / (1 + (spread + 4 * x.square() / w + 4 * y.square() / h) / 2)
