"""The detector as one function of tensors, for a file that runs without this package."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamic_atss.errors import UserError
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.modeling.postprocess import Found, PostProcess
from dynamic_atss.ops.nms import batched_multiclass_nms

INPUTS = ("images", "sizes", "original_sizes")
OUTPUTS = ("boxes", "scores", "classes", "counts")
NO_CLASS = -1  # of the rows of an image that are not filled

Suppress = Callable[..., tuple[Tensor, Tensor]]


class TensorDetector(nn.Module):
    """Normalisation, network, decoding and NMS; every image has as many rows, best first.

    The network computes in float32, also where a training did not. `suppress`: what computes NMS,
    called as `batched_multiclass_nms`.

    Raises:
        UserError: the post-processing is one of the user's own.
    """

    def __init__(self, detector: Detector, suppress: Suppress = batched_multiclass_nms) -> None:
        super().__init__()
        if not isinstance(detector.postprocess, PostProcess):
            raise UserError(
                f"post-processing {type(detector.postprocess).__name__}: cannot be exported; give "
                "a PostProcess of dynamic_atss.modeling.postprocess, or a subclass"
            )
        self.detector, self.process, self.suppress = detector, detector.postprocess, suppress

    def forward(
        self, images: Tensor, sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """images (N, 3, H, W) uint8 RGB, padded by 0 at the right and the bottom · sizes (N, 2)
        int64, height and width without the padding · original_sizes (N, 2), of the pictures.

        Returns:
            boxes (N, D, 4), x1, y1, x2, y2 in pixels of the picture, x2 - x1 wide · scores (N, D) ·
            classes (N, D) int64 · counts (N,) int64, how many rows of each image are filled; of the
            others boxes and scores are 0 and classes -1.
        """
        model, process = self.detector, self.process
        output = process.output(model.head(model.backbone(model.normalize(images, sizes))))
        priors = model.priors(output.sizes, images.device)
        found, _ = process.candidates(output, priors, sizes, complete=True)
        found, counts = process.select(found, sizes, original_sizes, self.suppress)
        ratio = (original_sizes / sizes).flip(1).repeat(1, 2)  # x, y, x, y
        boxes = found[0] * ratio[:, None]
        beyond = boxes.new_tensor([0.0, 0.0, process.convention.value, process.convention.value])
        return *_rows((boxes + beyond, *found[1:]), counts, process.detections_per_image), counts


def _rows(found: Found, counts: Tensor, rows: int) -> Found:
    """`rows` of each image; those from its count on hold nothing."""
    boxes, scores, classes = found
    free = torch.arange(scores.shape[1], device=counts.device) >= counts[:, None]
    more = rows - scores.shape[1]
    return (
        F.pad(boxes.masked_fill(free[..., None], 0.0), (0, 0, 0, more)),
        F.pad(scores.masked_fill(free, 0.0), (0, more)),
        F.pad(classes.masked_fill(free, NO_CLASS), (0, more), value=NO_CLASS),
    )
