"""Wraps the detector as a function of tensors, which can be exported."""

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
NO_CLASS = -1  # in rows that are not filled

Suppress = Callable[..., tuple[Tensor, Tensor]]


class TensorDetector(nn.Module):
    """Runs normalisation, network, decoding and NMS. Every image has equally many rows.

    The network computes in float32, even if it was trained in another type.

    Args:
        suppress: the NMS function, with the arguments of `batched_multiclass_nms`.

    Raises:
        UserError: the post-processing is not a PostProcess.
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
        """Detects objects in N images.

        Args:
            images: (N, 3, H, W) uint8 RGB, padded by 0 at the right and the bottom.
            sizes: (N, 2) int64 height and width without padding.
            original_sizes: (N, 2) int64 height and width of the original pictures.

        Returns:
            boxes: (N, D, 4) x1, y1, x2, y2 in pixels of the original picture, width x2 - x1,
                highest score first.
            scores: (N, D).
            classes: (N, D) int64.
            counts: (N,) int64 number of filled rows of each image. Other rows hold boxes and
                scores 0 and class -1.
        """
        model, process = self.detector, self.process
        output = process.output(model.head(model.backbone(model.normalize(images, sizes))))
        priors = model.priors(output.sizes, images.device)
        found, _ = process.candidates(output, priors, sizes, complete=True)
        found, counts = process.select(found, sizes, original_sizes, self.suppress)
        ratio = (original_sizes / sizes).flip(1).repeat(1, 2)  # x, y, x, y
        boxes = found[0] * ratio[:, None]
        offset = boxes.new_tensor([0.0, 0.0, process.convention.value, process.convention.value])
        return *_rows((boxes + offset, *found[1:]), counts, process.detections_per_image), counts


def _rows(found: Found, counts: Tensor, rows: int) -> Found:
    """Pads each image to `rows` rows. Clears the rows after its count."""
    boxes, scores, classes = found
    empty = torch.arange(scores.shape[1], device=counts.device) >= counts[:, None]
    padding = rows - scores.shape[1]
    return (
        F.pad(boxes.masked_fill(empty[..., None], 0.0), (0, 0, 0, padding)),
        F.pad(scores.masked_fill(empty, 0.0), (0, padding)),
        F.pad(classes.masked_fill(empty, NO_CLASS), (0, padding), value=NO_CLASS),
    )
