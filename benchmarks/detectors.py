"""Whole train step and whole inference of R-50 detectors beside torchvision's FCOS and RetinaNet.

    python benchmarks/detectors.py [--device cuda] [--batch 16] [--size 800 1333] [--dtype bfloat16]

All three with frozen batch norm, stem and first stage frozen, random weights, the same images and
boxes, SGD; they take turns in one process. Medians; images per second, and the ratio to ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from dynamic_atss.build import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.types import Batch, GroundTruth, to_device

CLASSES = 80
CONFIG = "configs/dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml"


def torchvision_detector(kind: str, size: tuple[int, int]) -> nn.Module:
    body = resnet50(norm_layer=FrozenBatchNorm2d)
    backbone = _resnet_fpn_extractor(
        body, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)
    )
    limits = {"min_size": min(size), "max_size": max(size)}  # the images keep their size
    if kind == "fcos":
        return FCOS(backbone, CLASSES, **limits)
    norm = lambda channels: nn.GroupNorm(32, channels)  # noqa: E731
    head = RetinaNetHead(256, 9, CLASSES, norm_layer=norm)
    return RetinaNet(backbone, CLASSES, head=head, **limits)


def scene(batch: int, size: tuple[int, int], boxes: int) -> Batch:
    """Noise, with `boxes` boxes of 16 to 400 pixels in each image."""
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
    images = torch.randint(256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)
    return Batch(
        images, torch.tensor([size] * batch), gt, tuple(range(batch)), tuple([size] * batch)
    )


def our_inputs(batch: Batch, divisor: int = 32) -> Batch:
    height, width = (-(-x // divisor) * divisor for x in batch.images.shape[2:])
    padding = (0, width - batch.images.shape[3], 0, height - batch.images.shape[2])
    images = nn.functional.pad(batch.images, padding)
    return Batch(images, batch.sizes, batch.gt, batch.image_ids, batch.original_sizes)


def their_inputs(batch: Batch) -> tuple[list, list]:
    targets = [
        {
            "boxes": batch.gt.boxes[batch.gt.image == i],
            "labels": batch.gt.classes[batch.gt.image == i],
        }
        for i in range(len(batch.images))
    ]
    return list(batch.images.float() / 255), targets


def steps(name: str, batch: Batch, args: argparse.Namespace) -> tuple[Callable, Callable]:
    """(train step, inference) of one detector."""
    dtype = getattr(torch, args.dtype)
    overrides = ["DTYPE", args.dtype, "MODEL.CHANNELS_LAST", str(args.channels_last)]
    if name == "ours":
        model: nn.Module = build_model(load_config(CONFIG, overrides), CLASSES)
        inputs: tuple[Any, ...] = (our_inputs(batch),)
    else:
        model = torchvision_detector(name, tuple(args.size))
        inputs = their_inputs(batch)
        if args.channels_last:
            model.to(memory_format=torch.channels_last)
    model.to(args.device)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learnt, 1e-4, momentum=0.9)
    cast = torch.autocast(args.device, dtype, enabled=dtype != torch.float32 and name != "ours")

    def train() -> None:
        model.train()
        with cast:
            losses = model(*inputs)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def infer() -> None:
        model.eval()
        with torch.inference_mode(), cast:
            model(*inputs[:1])

    return train, infer


def measure(step: Callable[[], None], device: str) -> tuple[float, float]:
    """Seconds and, on a GPU, peak MiB."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
    return time.perf_counter() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("H", "W"))
    parser.add_argument("--boxes", type=int, default=7, help="in each image; COCO has 7.3")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    batch = to_device(scene(args.batch, tuple(args.size), args.boxes), args.device)
    names = ("ours", "fcos", "retinanet")
    detectors = {name: steps(name, batch, args) for name in names}
    kind = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.device}"
    print(f"{kind}, batch {args.batch}, {args.size[0]} x {args.size[1]}, {args.dtype}")
    print("| stage | detector | images/s | seconds / ours | peak MiB |\n|---|---|---|---|---|")
    for index, stage in enumerate(("train step", "inference")):
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for repeat in range(args.repeats + 1):
            for name in names:
                result = measure(detectors[name][index], args.device)
                if repeat:  # the first warms up
                    runs[name].append(result)
        medians = {name: statistics.median(s for s, _ in runs[name]) for name in names}
        for name in names:
            peak = max(p for _, p in runs[name])
            ratio = medians[name] / medians["ours"]
            speed = args.batch / medians[name]
            print(f"| {stage} | {name} | {speed:.2f} | {ratio:.2f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
