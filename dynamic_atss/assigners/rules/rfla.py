"""RFLA: positives by the distance between a box and the receptive field of a location.

Xu et al., ECCV 2022, arXiv 2208.08738.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dynamic_atss.assigners.base import (
    Pairs,
    at_least,
    box_sides,
    center_offsets,
    centerness_of_tiny,
    has_pair,
    note,
    one_of,
    pair,
    resolve,
    rising,
    whole,
)
from dynamic_atss.assigners.nearest import surrounding_candidates
from dynamic_atss.assigners.ranges import constant, priors_within
from dynamic_atss.boxes import centers
from dynamic_atss.types import IGNORE, Assignment, GroundTruth, Predictions, Priors

FIELDS = (45.5, 133.5, 213.5, 277.5, 405.5)  # half of what P3 to P7 of a ResNet-50 can see
EPS = 1e-6  # of widths, as published
NEAR = 0.8  # similarity from which on what is not positive is ignored, as published
MIDDLE = 0.72  # share of a box's width within which such locations lie
TIES = 3  # locations may be as near to a centre as another one
DISTANCES = ("kl", "wasserstein")
CONFLICTS = ("last", "best")


class RFLA:
    """Similarity = 1 / (1 + distance) of two Gaussians, the box and the receptive field of the
    location. First every box takes its topk[0] locations, then, of what is left, its topk[1] with
    fields that are `decay` times as wide; equal ones all count. Locations whose similarity reaches
    0.8 and that stay without a box are ignored, as by the release's assigner (its FCOS head takes
    them as background). Quality = centerness, at least that of 0.01 pixels: tiny boxes have
    positives outside. The release narrows the fields once more for every further image of a batch,
    which is not followed.

    Args:
        topk: locations of a box in the first and in the second round.
        decay: of the field in the second round.
        fields: by level, in pixels: the side of the effective receptive field.
        distance: "kl" (Kullback-Leibler divergence) or "wasserstein".
        conflicts: of several boxes that take one prior the "last" of the image wins, as released,
            or the "best", the most similar.

    Raises:
        ValueError: for a value that is not accepted.
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
        pair(topk=topk)
        self.first, self.second = topk
        whole(1, topk_0=self.first, topk_1=self.second)
        at_least(0.01, decay=decay)
        rising(fields=fields)
        one_of(DISTANCES, distance=distance)
        one_of(CONFLICTS, conflicts=conflicts)
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
        """(N, P) bool: priors that a box is very similar to."""
        half = (gt.boxes[:, 2:] - gt.boxes[:, :2]) * MIDDLE / 2
        region = torch.cat((centers(gt.boxes) - half, centers(gt.boxes) + half), dim=1)
        pairs = priors_within(priors, gt, region[:, None], scale=MIDDLE)
        similar = self._similarity(priors, gt, pairs, self.decay) >= NEAR
        return has_pair(pairs, similar, shape)

    def _similarity(self, priors: Priors, gt: GroundTruth, pairs: Pairs, scale: float) -> Tensor:
        """(T, K) or (M,), in (0, 1]."""
        level = priors.level.index_select(0, pairs.prior.flatten()).view_as(pairs.prior)
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
