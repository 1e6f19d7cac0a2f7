"""Computes losses and metrics of images in training, and detections otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dynamic_atss.modeling.accumulate import in_parts
from dynamic_atss.modeling.branches import Outputs
from dynamic_atss.modeling.cuda_graphs import CudaGraphs
from dynamic_atss.modeling.head import DenseHead, branches_of, check_output, check_sizes
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.types import Batch, Detections


class Detector(nn.Module):
    """Combines backbone, head, priors, criterion and post-processing.

    Args:
        backbone: images (N, 3, H, W) float -> list of feature maps, finest first.
        head: feature maps -> `HeadOutput`, or a dict of them by branch with the same priors.
        priors: (feature sizes, device) -> `Priors`.
        criterion: (output, priors, gt, iteration) -> `Terms`, or loss terms by name. An
            `nn.Module` belongs to the model. None: the detector only predicts.
        postprocess: (output, priors, sizes, nms=...) -> list of `Detections`.
        pixel_mean, pixel_std: in the order and range of `bgr255`.
        bgr255: True if the network takes BGR in 0..255. Otherwise it takes RGB in 0..1.
        autocast: dtype of the convolutions; None: float32.
        channels_last: True if the convolutions use channels_last memory format.
        parts: number of parts in which the network computes a training batch, see `in_parts`.

    Attributes:
        graphs: says which passes are recorded as CUDA graphs; None: none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        priors: Callable[..., Any],
        criterion: Callable[..., Terms | Mapping[str, Tensor]] | None,
        postprocess: Callable[..., list[Detections]],
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        bgr255: bool = True,
        autocast: torch.dtype | None = None,
        channels_last: bool = False,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.priors = priors
        self.criterion = criterion
        self.postprocess = postprocess
        self.bgr255 = bgr255
        self.autocast = autocast
        self.parts = parts
        self.graphs: CudaGraphs | None = None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        scale = 1.0 if bgr255 else 255.0
        self.register_buffer(
            "mean", torch.tensor(pixel_mean).view(3, 1, 1) * scale, persistent=False
        )
        self.register_buffer("std", torch.tensor(pixel_std).view(3, 1, 1) * scale, persistent=False)
        self.to(memory_format=self.memory_format)

    def forward(self, batch: Batch, *, nms: bool = True) -> Terms | list[Detections]:
        """Gives `Terms` in training, and otherwise detections, one per image.

        Args:
            nms: False gives all candidates before NMS.
        """
        parts = self.parts if self.training else 1
        if self.graphs is not None and self.graphs.serves(self.training):
            self.graphs.begin_step()
        copies = None if self.graphs is None else self.graphs.copies
        output = in_parts(self._network, self, parts, batch.images, batch.sizes, copies=copies)
        priors = self.priors(branches_of(self.head, output)[0].sizes, batch.images.device)
        if self.training:
            if isinstance(self.postprocess, PostProcess):
                self.postprocess.output(output)  # reports a missing branch before the training
            if self.criterion is None:
                raise RuntimeError("this detector only predicts: build it with its losses")
            found = self.criterion(output, priors, batch.gt, batch.iteration)
            terms = Terms.of(found, f"criterion {type(self.criterion).__name__}")
            return terms.touching(self._perhaps_unused())
        return self.postprocess(output, priors, batch.sizes, batch.original_sizes, nms=nms)

    def _network(self, images: Tensor, sizes: Tensor) -> Outputs:
        """Gives the head's output for uint8 images (N, 3, H, W) of sizes (N, 2).

        Raises:
            UserError: the output does not match the priors.
        """
        images = self.normalize(images, sizes)
        autocast = self.autocast is not None
        with self._passing(images), torch.autocast(images.device.type, self.autocast, autocast):
            output = self.head(self.backbone(images))
        branches = branches_of(self.head, output)
        check_sizes(self.head, branches, getattr(self.priors, "strides", None))
        priors = self.priors(branches[0].sizes, images.device)
        for branch in branches:
            check_output(self.head, branch, len(images), priors)
        return output

    def _passing(self, images: Tensor) -> AbstractContextManager[object]:
        """Gives the context manager of a pass, which is `CudaGraphs.passing` with graphs."""
        return nullcontext() if self.graphs is None else self.graphs.passing(images, self.training)

    @torch.no_grad()
    def largest_logit(self, batch: Batch) -> float:
        """Gives the largest absolute logit of a forward pass as in training; NaN if one is NaN."""
        output = self._network(batch.images, batch.sizes)
        logits = [branch.logits.flatten() for branch in branches_of(self.head, output)]
        return float(torch.cat(logits).abs().amax())

    def _perhaps_unused(self) -> list[nn.Parameter]:
        """Gives the trained parameters that the losses of a step may not depend on.

        These are the parameters of the criterion, which includes the rule. If head or criterion are
        custom, they include those of the head, because a branch may be in no loss. The built-in
        criteria use every parameter of the built-in head.
        """
        from dynamic_atss.modeling.criterion import Criterion, RetinaNetCriterion

        parts = [self.criterion, self.head]
        if type(self.head) is DenseHead and type(self.criterion) in (Criterion, RetinaNetCriterion):
            parts.remove(self.head)
        parameters = nn.ModuleList(x for x in parts if isinstance(x, nn.Module)).parameters()
        return [p for p in parameters if p.requires_grad]

    def normalize(self, images: Tensor, sizes: Tensor) -> Tensor:
        """Converts uint8 RGB (N, 3, H, W) to the network's float input, with 0 in the padding."""
        images = images.to(memory_format=self.memory_format)
        if self.bgr255:
            images = images.flip(1)
        pixels = images.to(torch.float32, copy=True).sub_(self.mean).div_(self.std)
        rows = torch.arange(images.shape[2], device=images.device) >= sizes[:, :1]
        columns = torch.arange(images.shape[3], device=images.device) >= sizes[:, 1:]
        # The padding is filled, not multiplied by 0, because 0 * x is -0 for a negative x.
        return pixels.masked_fill_(rows[:, None, :, None] | columns[:, None, None, :], 0.0)
