"""Traces the detector as a graph of operators for any number of images of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.fx.experimental._config
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dynamic_atss.errors import UserError
from dynamic_atss.export.module import TensorDetector
from dynamic_atss.export.timm_padding import integer_padding
from dynamic_atss.modeling.fpn import FPN

_SYMBOLIC: Any = torch.fx.experimental._config
# Images, height and width of the traced example. Every level has several locations, and the sides
# differ.
_EXAMPLE = 2, 288, 320


def traced(model: TensorDetector, device: torch.device) -> ExportedProgram:
    """Traces a model in evaluation mode on `device`.

    Raises:
        UserError: a part of the model cannot be traced, or not for every size.
    """
    images, height, width = _EXAMPLE
    sizes = torch.tensor([[height, width], [height - 9, width - 30]], device=device)
    pixels = torch.zeros(images, 3, height, width, dtype=torch.uint8, device=device)
    batch = Dim("batch", min=1)
    shapes = ({0: batch, 2: Dim("height", min=1), 3: Dim("width", min=1)}, {0: batch}, {0: batch})
    try:
        # Without this option the trace refuses maps of 1 x 1, which could broadcast.
        patch = _SYMBOLIC.patch(backed_size_oblivious=True)
        with torch.no_grad(), patch, integer_padding(), _contiguous_maps(model):
            return torch.export.export(
                model,
                (pixels, sizes, sizes * 2),
                dynamic_shapes=shapes,
                strict=False,
            )
    except UserError:
        raise
    except Exception as error:  # a custom head or body may raise any exception
        raise UserError(
            f"{_parts(model)}: cannot be traced ({_first_line(error)}); do not branch on values "
            "of tensors in it, and read sizes as x.shape[0], not len(x)"
        ) from error


@contextmanager
def _contiguous_maps(model: TensorDetector) -> Iterator[None]:
    """Makes the maps that enter the FPN contiguous.

    Bodies with channels last (Swin) give views with other strides. A trace with such strides does
    not accept maps of 1 x 1, which have both kinds of strides.
    """
    with ExitStack() as stack:
        for fpn in (part for part in model.modules() if isinstance(part, FPN)):
            stack.enter_context(fpn.register_forward_pre_hook(_contiguous))
        yield


def _contiguous(fpn: nn.Module, args: tuple[Sequence[Tensor]]) -> tuple[list[Tensor]]:
    return ([x.clone(memory_format=torch.contiguous_format) for x in args[0]],)


def _parts(model: TensorDetector) -> str:
    detector = model.detector
    body = getattr(detector.backbone, "body", detector.backbone)
    return f"head {type(detector.head).__name__} over {type(body).__name__}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
