"""Makes the detectors of the benchmarks, ours and torchvision's, and runs their steps."""

from __future__ import annotations

import argparse
import gc
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import Call
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from dynamic_atss.builders import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.types import Batch, GroundTruth

CLASSES = 80
CONFIG = "configs/dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml"
PEERS = ("FCOS", "RetinaNet v2")
THRESHOLD = 0.05  # of scores
PASSING = 1 / 200  # of the scores
# Calls before the clock starts: CUDA graphs run once, are recorded, and are replayed then.
WARM_UP = {"cpu": 1, "cuda": 3}


def ours(args: argparse.Namespace, overrides: list[str] | tuple[str, ...] = ()) -> nn.Module:
    given = ["DTYPE", args.dtype, "MODEL.CHANNELS_LAST", str(args.channels_last)]
    given += ["MODEL.RESNETS.STRIDE_IN_1X1", "False", *overrides]
    return build_model(load_config(CONFIG, given), CLASSES)


def peer(kind: str, args: argparse.Namespace) -> nn.Module:
    """Builds a detector of torchvision's: one of PEERS."""
    body = resnet50(norm_layer=FrozenBatchNorm2d)
    top = LastLevelP6P7(256 if kind == "FCOS" else 2048, 256)
    backbone = _resnet_fpn_extractor(body, 3, returned_layers=[2, 3, 4], extra_blocks=top)
    options = {"score_thresh": THRESHOLD, "nms_thresh": 0.6, "topk_candidates": 1000}
    # Images keep their size, but torchvision interpolates them in inference (0.4 % of its time).
    options |= {"min_size": min(args.size), "max_size": max(args.size), "_skip_resize": True}
    if kind == "FCOS":
        # It thresholds the root of class score x centerness; the centerness is initially 1/2.
        options["score_thresh"] = math.sqrt(THRESHOLD / 2)
        model: nn.Module = FCOS(backbone, CLASSES, **options)
    else:
        head = RetinaNetHead(256, 9, CLASSES, norm_layer=partial(nn.GroupNorm, 32))
        head.regression_head._loss_type = "giou"  # as in retinanet_resnet50_fpn_v2
        model = RetinaNet(backbone, CLASSES, head=head, detections_per_img=100, **options)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    return model.to(memory_format=layout)


def scene(batch: int, size: tuple[int, int], boxes: int) -> Batch:
    """Makes images of noise, with `boxes` boxes of 16 to 400 pixels in each."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    limit = torch.tensor([width, height], dtype=torch.float32)
    total = batch * boxes
    corner = torch.rand(total, 2, generator=generator) * (limit - 20)
    side = 16 * 25 ** torch.rand(total, 2, generator=generator)
    gt = GroundTruth(
        torch.cat((corner, torch.minimum(corner + side, limit - 1)), 1),
        torch.randint(CLASSES, (total,), generator=generator),
        torch.arange(batch).repeat_interleave(boxes),
    )
    pixels = torch.randint(256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)
    images = pixels.permute(0, 3, 1, 2)  # as the loader's
    return Batch(
        images, torch.tensor([size] * batch), gt, tuple(range(batch)), tuple([size] * batch)
    )


def repeated(batch: Batch, images: int) -> Batch:
    """Gives a batch of so many images: those of `batch`, again and again."""
    index = [i % len(batch.images) for i in range(images)]
    here = [batch.gt.image_index == i for i in range(len(batch.images))]
    boxes = [batch.gt.boxes[here[i]] for i in index]
    gt = GroundTruth(
        torch.cat(boxes),
        torch.cat([batch.gt.classes[here[i]] for i in index]),
        torch.cat([torch.full_like(batch.gt.classes[: len(b)], n) for n, b in enumerate(boxes)]),
    )
    sizes = tuple(batch.original_sizes[i] for i in index)
    return Batch(batch.images[index], batch.sizes[index], gt, tuple(range(images)), sizes)


class Step:
    """Runs train steps and inference of one detector on one batch.

    Attributes:
        peaks: on a GPU, the most memory of this detector alone in 10^6 bytes, weights and images
            included, for "train" and "infer"; the most over all calls before the clock starts.
    """

    def __init__(self, model: nn.Module, args: argparse.Namespace, batch: Batch) -> None:
        self.device = args.device
        before = torch.cuda.memory_allocated() if self.device == "cuda" else 0
        self.model = model.to(args.device)
        self.mine = not isinstance(model, FCOS | RetinaNet)
        self.load(batch)
        dtype = getattr(torch, args.dtype)
        self.cast = torch.autocast(args.device, dtype, not self.mine and dtype != torch.float32)
        learnt = [p for p in model.parameters() if p.requires_grad]
        # The rate is so small that the weights stay random over all timed steps.
        self.optimizer = torch.optim.SGD(learnt, 1e-7, momentum=0.9, weight_decay=1e-4)
        # Compiled parts would be compiled a second time, for the hook.
        with torch.compiler.set_stance("force_eager"):
            spread_scores(model, self.infer)
        self.peaks: dict[str, float] = {}
        for name in ("train", "infer"):
            self._warm_up(name, before)

    def load(self, batch: Batch) -> None:
        """Takes another batch, which lies on the device."""
        self.inputs = (padded(batch),) if self.mine else their_inputs(batch)

    def _warm_up(self, name: str, before: int) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for _ in range(WARM_UP[self.device]):
            getattr(self, name)()
        if self.device == "cuda":
            self.peaks[name] = (torch.cuda.max_memory_allocated() - before) / 1e6

    def train(self) -> Tensor:
        self.model.train()
        with self.cast:
            found = self.model(*self.inputs)
        losses = found.losses if self.mine else found  # torchvision's names are not those of Terms
        loss = sum(losses.values())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def infer(self) -> Any:
        self.model.eval()
        with torch.inference_mode(), self.cast:
            return self.model(*self.inputs[:1])


def padded(batch: Batch, divisor: int = 32) -> Batch:
    height, width = (-(-x // divisor) * divisor for x in batch.images.shape[2:])
    padding = (0, width - batch.images.shape[3], 0, height - batch.images.shape[2])
    images = nn.functional.pad(batch.images, padding)
    images = images.contiguous(memory_format=torch.channels_last)
    return Batch(images, batch.sizes, batch.gt, batch.image_ids, batch.original_sizes)


def their_inputs(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    targets = []
    for i in range(len(batch.images)):
        here = batch.gt.image_index == i
        targets.append({"boxes": batch.gt.boxes[here], "labels": batch.gt.classes[here]})
    return list(batch.images.float().contiguous() / 255), targets


def spread_scores(model: nn.Module, infer: Call) -> None:
    """Scales the class branch to logits of deviation 1; a share PASSING exceeds THRESHOLD.

    At its initial weights no score would exceed it, and NMS would have no work.
    """
    branch = next(m for n, m in model.named_modules() if n.endswith("cls_logits"))
    found: list[Tensor] = []
    hook = branch.register_forward_hook(lambda *call: found.append(call[-1].float().flatten()))
    infer()
    hook.remove()
    logits = torch.cat(found)
    with torch.no_grad():
        offset = logits - branch.bias[0]
        scale = 1 / offset.std()
        limit = offset.topk(int(PASSING * len(offset))).values[-1] * scale
        branch.weight.mul_(scale)
        branch.bias.fill_(math.log(THRESHOLD / (1 - THRESHOLD)) - limit.item())


def operations(call: Callable[[], object]) -> int:
    """Counts the floating-point operations of convolutions and matrix products.

    Compiled parts run as they are written: the counter does not see inside of compiled code.
    """
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


class Convolutions(TorchDispatchMode):
    """Records the convolutions of a call, forward and backward; repeats them on random numbers."""

    aten = torch.ops.aten
    KINDS = (
        aten.convolution.default,
        aten.convolution_backward.default,
        aten.conv2d.default,  # in inference mode
    )

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], list[Any]]] = []
        self.numbers: dict[Any, Tensor] = {}  # one tensor for each shape
        with torch.compiler.set_stance("force_eager"), self:
            call()

    def __torch_dispatch__(self, kind: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if kind in self.KINDS:
            self.calls.append((kind, [self._alike(x) for x in args]))
        return kind(*args, **(kwargs or {}))

    def _alike(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        form = x.shape, x.stride(), x.dtype
        if form not in self.numbers:
            self.numbers[form] = torch.randn_like(x)
        return self.numbers[form]

    def __call__(self) -> None:
        with torch.no_grad():
            for kind, args in self.calls:
                kind(*args)


def free(device: str) -> None:
    """Gives the memory of deleted models, their compiled code and their CUDA graphs back."""
    torch._dynamo.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
