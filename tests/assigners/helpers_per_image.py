"""Implements ATSS, and FCOS without centre sampling, as rules for one image."""

import torch

from dynamic_atss.assigners.base import inside, std
from dynamic_atss.assigners.per_image import PerImage
from dynamic_atss.boxes import BoxConvention, centerness, centers, sides
from dynamic_atss.types import BACKGROUND


class DenseATSS(PerImage):
    quality_name = "centerness"

    def assign(self, priors, boxes, classes, predicted_boxes, logits):
        overlap = BoxConvention.LEGACY.iou(priors.boxes[:, None], boxes)
        distance = (priors.centers[:, None] - centers(boxes)).square().sum(-1)
        levels = [(priors.level == n).nonzero()[:, 0] for n in range(len(priors.levels))]
        count = 9 * priors.per_location
        near = torch.cat([x[distance[x].argsort(dim=0, stable=True)[:count]] for x in levels])
        candidates = overlap.gather(0, near)
        score = torch.full_like(overlap, -1).scatter(0, near, candidates)
        threshold = candidates.mean(0) + std(candidates.T)[:, 0]
        positive = (score >= threshold) & inside(priors.centers[:, None], boxes)
        best, index = score.where(positive, -1).max(1)
        return index.where(best >= 0, BACKGROUND), centerness(priors.centers, boxes[index])


class DenseFCOS(PerImage):
    quality_name = "centerness"
    needs_size = False

    def assign(self, priors, boxes, classes, predicted_boxes, logits):
        distances = sides(priors.centers[:, None], boxes)
        limits = torch.tensor([-1, 64, 128, 256, 512, torch.inf]).to(boxes.device)
        low, high = limits[priors.level, None], limits[priors.level + 1, None]
        farthest = distances.amax(-1)
        positive = (distances.amin(-1) > 0) & (farthest >= low) & (farthest <= high)
        smallest, index = BoxConvention.LEGACY.area(boxes).where(positive, torch.inf).min(1)
        learnt = smallest < torch.inf
        return index.where(learnt, BACKGROUND), centerness(priors.centers, boxes[index])


PER_IMAGE = {"per_image_atss": DenseATSS, "per_image_fcos": DenseFCOS}
PACKED = {"per_image_atss": "atss", "per_image_fcos": "fcos"}
