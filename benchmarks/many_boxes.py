"""Measures time and peak memory of every rule for a batch with very many boxes.

    python benchmarks/many_boxes.py [--rules atss fcos] [--images 128] [--boxes 75357]
        [--most 4967] [--threads 1] [--processor-time]

The sizes are those of a report on satellite images: 128 images of 640 x 640 with 75,357 boxes,
4,967 of them in one image. Sides are 4 to 120 pixels. There are 60 classes, and 8,525 priors of
ATSS in an image. `assignment.py` compares labels, for sizes whose dense form fits into memory.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import main, measure, processor_time

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions, Priors, to_device

SIZE, CLASSES = 640, 60
STRIDES = (8, 16, 32, 64, 128)


def scene(images: int, boxes: int, most: int) -> tuple[Priors, GroundTruth, Predictions]:
    """Puts `most` of the boxes into the first image, the others at random into the other images."""
    generator = torch.Generator().manual_seed(0)
    make = AnchorGenerator(STRIDES, [8.0 * stride for stride in STRIDES])
    priors = make([(SIZE // stride,) * 2 for stride in STRIDES], torch.device("cpu"))
    others = torch.randint(1, images, (boxes - most,), generator=generator).sort().values
    image = torch.cat((torch.zeros(most, dtype=torch.int64), others))
    center = torch.rand(boxes, 2, generator=generator) * SIZE
    half = 2 * 30 ** torch.rand(boxes, 2, generator=generator)
    classes = torch.randint(CLASSES, (boxes,), generator=generator)
    gt = GroundTruth(torch.cat((center - half, center + half), 1), classes, image)
    noise = torch.randn(images, len(priors), 4, generator=generator)
    side = (priors.boxes[:, 2:] - priors.boxes[:, :2]).repeat(1, 2)
    logits = torch.randn(images, len(priors), CLASSES, generator=generator)
    # This times the second iteration, because the first result of a rule is checked.
    return priors, gt, Predictions(priors.boxes + 0.1 * noise * side, logits, iteration=1)


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.quick:
        args.images, args.boxes, args.most = 4, 200, 50
    asked = [to_device(x, args.device) for x in scene(args.images, args.boxes, args.most)]
    return [row for rule in args.rules for row in rule_rows(rule, asked, args)]


def rule_rows(rule: str, asked: list[Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    assigner = ASSIGNERS[rule]()
    found = call_rule(assigner, *asked)
    learnt = int(found.learnt(len(asked[1])).sum())
    return measure(
        *("many boxes", rule, lambda: call_rule(assigner, *asked), {}, args),
        note=f"{learnt:,} of {len(asked[1]):,} boxes have a positive",
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rules", nargs="+", choices=list(ASSIGNERS), default=list(ASSIGNERS))
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--boxes", type=int, default=75357)
    parser.add_argument(
        "--most", type=int, default=4967, help="number of boxes in the largest image"
    )
    processor_time(parser)


if __name__ == "__main__":
    main(__doc__, rows, arguments)
