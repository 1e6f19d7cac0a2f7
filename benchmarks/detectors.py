"""Compares train steps and inference of R-50 detectors with torchvision's FCOS and RetinaNet.

    python benchmarks/detectors.py [--device cuda] [--batch 16] [--size 800 1333]
        [--dtype bfloat16] [--channels-last] [--compile | --no-compile]

All detectors do the same work:
- the same ResNet-50: stride in the 3x3 convolutions; stem, first stage and batch norms frozen
- P3 to P7 of 256 channels, P6 from P5; towers of four convolutions with group norm
- SGD over all parameters as one group
- the same images and boxes; images need no resizing and are padded to the same size. They are on
  the device before the clock starts, as uint8 for ours and as float for torchvision's

The note counts the operations of convolutions, forward and backward, in 10^9 (RetinaNet has 9
anchors at each location). The limit is our convolutions alone, one after the other. Weights are
random. The class branch is scaled so that 1 of 200 scores of an image passes the threshold.
Thresholds and numbers of candidates and detections are ours.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from common import Call, main, measure
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
from dynamic_atss.modeling.terms import Terms
from dynamic_atss.types import Batch, GroundTruth, to_device

CLASSES = 80
CONFIG = "configs/dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml"
PEERS = ("FCOS", "RetinaNet")
THRESHOLD = 0.05  # of scores
PASSING = 1 / 200  # of the scores
SECONDS = 20.0  # of repeats at least; a step on a CPU takes seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, help="number of images; default 1, on a GPU 16")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="short and long side; default 800 800, on a GPU 800 1333",
    )
    parser.add_argument(
        "--boxes", type=int, default=7, help="number of boxes in each image; COCO has 7.3"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="type of the activations; default float32, on a GPU bfloat16",
    )
    parser.add_argument(
        "--channels-last",
        action="store_true",
        default=None,
        help="use channels-last; default no, on a GPU yes",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="also measure ours with torch.compile; default no, on a GPU yes",
    )


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    args = filled(args)
    batch = to_device(scene(args.batch, tuple(args.size), args.boxes), args.device)
    peers = {f"torchvision {kind}": Step(peer(kind, args), args, batch) for kind in PEERS}
    forms = {"": Step(ours(args), args, batch)}
    if args.compile:
        forms[", compiled"] = Step(ours(args, ["MODEL.COMPILE", "True"]), args, batch)
    found = []
    for stage, name in (("train step", "train"), ("inference", "infer")):
        work = [getattr(step, name) for step in (forms[""], *peers.values())]
        note = " / ".join(f"{operations(call) / 1e9:.0f}" for call in work)
        alone = Convolutions(work[0])
        for suffix, step in forms.items():
            rows = measure(
                f"whole {stage}",
                f"{title(args)}{suffix}",
                getattr(step, name),
                {who: getattr(other, name) for who, other in peers.items()},
                args,
                limit="our convolutions alone",
                at_limit=alone,
                memory=not suffix,
                note=f"{note} GFLOP, " if not suffix else "",
            )
            found += [with_rate(row, args.batch) for row in rows]
    return found


def with_rate(row: dict[str, Any], images: int) -> dict[str, Any]:
    """Adds images per second, ours and the peer's, to the note."""
    ours, theirs = (f"{images / row[name]:.3g}" for name in ("ours_s", "peer_s"))
    return {**row, "note": f"{row['note']}{ours} and {theirs} images/s"}


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
        with self:
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


def filled(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on other arguments."""
    gpu = args.device == "cuda"
    given = {name: value for name, value in vars(args).items() if value is not None}
    defaults = {
        "batch": 16 if gpu and not args.quick else 1,
        "size": (320, 320) if args.quick else (800, 1333 if gpu else 800),
        "dtype": "bfloat16" if gpu else "float32",
        "channels_last": gpu,
        "compile": gpu,
    }
    seconds = args.seconds if args.quick or gpu else max(args.seconds, SECONDS)
    return argparse.Namespace(**(defaults | given | {"seconds": seconds}))


def title(args: argparse.Namespace) -> str:
    layout = ", channels-last" if args.channels_last else ""
    return f"{args.batch} x {args.size[0]} x {args.size[1]}, {args.dtype}{layout}"


def ours(args: argparse.Namespace, overrides: list[str] | tuple[str, ...] = ()) -> nn.Module:
    given = ["DTYPE", args.dtype, "MODEL.CHANNELS_LAST", str(args.channels_last)]
    given += ["MODEL.RESNETS.STRIDE_IN_1X1", "False", *overrides]
    return build_model(load_config(CONFIG, given), CLASSES)


def peer(kind: str, args: argparse.Namespace) -> nn.Module:
    body = resnet50(norm_layer=FrozenBatchNorm2d)
    top = LastLevelP6P7(256, 256)
    backbone = _resnet_fpn_extractor(body, 3, returned_layers=[2, 3, 4], extra_blocks=top)
    options = {"score_thresh": THRESHOLD, "nms_thresh": 0.6, "topk_candidates": 1000}
    # Images keep their size, but torchvision interpolates them in inference (0.4 % of its time).
    options |= {"min_size": min(args.size), "max_size": max(args.size), "_skip_resize": True}
    if kind == "FCOS":
        # It thresholds the root of class score x centerness; the centerness is initially 1/2.
        options["score_thresh"] = math.sqrt(THRESHOLD / 2)
        model: nn.Module = FCOS(backbone, CLASSES, **options)
    else:
        norm = lambda channels: nn.GroupNorm(32, channels)  # noqa: E731
        head = RetinaNetHead(256, 9, CLASSES, norm_layer=norm)
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


class Step:
    """Runs train steps and inference of one detector on one batch."""

    def __init__(self, model: nn.Module, args: argparse.Namespace, batch: Batch) -> None:
        self.model = model.to(args.device)
        mine = not isinstance(model, FCOS | RetinaNet)
        self.inputs = (padded(batch),) if mine else their_inputs(batch)
        dtype = getattr(torch, args.dtype)
        self.cast = torch.autocast(args.device, dtype, not mine and dtype != torch.float32)
        learnt = [p for p in model.parameters() if p.requires_grad]
        # The rate is so small that the weights stay random over all timed steps.
        self.optimizer = torch.optim.SGD(learnt, 1e-7, momentum=0.9, weight_decay=1e-4)
        spread_scores(model, self.infer)
        self.train()
        self.infer()

    def train(self) -> Tensor:
        self.model.train()
        with self.cast:
            losses = Terms.of(self.model(*self.inputs)).losses
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
    """Counts the floating-point operations of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


if __name__ == "__main__":
    main(__doc__, rows, arguments)
