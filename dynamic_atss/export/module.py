"""The detector as one function of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TensorDetector(nn.Module):
    def __init__(self, detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, sizes: Tensor, original_sizes: Tensor):
        model, postprocess = self.detector, self.detector.postprocess
        outputs = model.head(model.backbone(model.normalize(images, sizes)))
        output = postprocess.output(outputs)
        priors = model.priors(output.sizes, images.device)
        found, _ = postprocess.candidates(output, priors, sizes, complete=True)
        (boxes, scores, classes), counts = postprocess.select(found, sizes, original_sizes)
        ratio = (original_sizes / sizes).flip(1).repeat(1, 2)
        boxes = boxes * ratio[:, None]
        place = torch.arange(scores.shape[1], device=counts.device)
        free = place >= counts[:, None]
        missing = postprocess.detections_per_image - scores.shape[1]
        boxes = F.pad(boxes.masked_fill(free[..., None], 0.0), (0, 0, 0, missing))
        scores = F.pad(scores.masked_fill(free, 0.0), (0, missing))
        classes = F.pad(classes.masked_fill(free, -1), (0, missing), value=-1)
        return boxes, scores, classes, counts
