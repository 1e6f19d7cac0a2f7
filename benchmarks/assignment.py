"""Compares time and peak memory of assignment rules with the same rules over all P x T pairs.

    python benchmarks/assignment.py [--rules atss fcos] [--boxes 10 100 1000] [--batch 1 16]
        [--threads 2] [--processor-time]

One image of 800 x 1344 has 22,400 priors. The dense forms in `dense` are plain PyTorch,
vectorised over boxes like the releases, image by image. Both forms must give every prior the same
gt index, except where rounding decides (MAY_DIFFER). A call of more than a second is repeated one
to three times. The dense form of PAA fits its mixtures by scikit-learn, box by box, like the
release. Ultralytics' assigner is another peer if it is installed.

On a busy machine `--threads 1 --processor-time` is steadier: with more threads, each operator waits
for the slowest. `2> /dev/null` drops the notes of the profiler.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from common import Call, Row, main, measure, processor_time
from dense import DENSE, MATRICES, SAME, Image, Rule
from torch import Tensor

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions, Priors, to_device

SIZES = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))
CLASSES = 80
# Rounding decides between scores of top-k, which differ by millionths from anchor to anchor and are
# equal on both sides of a centre. Measured on an Intel Xeon: of 22,400 priors, 2 differ at 1,000
# boxes and 20 at 5,000. PAA fits its mixtures to losses that differ in the last bit.
MAY_DIFFER = {"topk": 2e-3, "paa": 1e-4}

ON_GPU = 1e-4  # of all priors: sums are taken in another order there, so near ties may differ


def scene(
    boxes: int, batch: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> tuple[Priors, GroundTruth, Predictions]:
    """Makes boxes with sides of 8 to 400 pixels, and predictions near the priors."""
    generator = torch.Generator().manual_seed(boxes)
    make = AnchorGenerator((8, 16, 32, 64, 128), (64, 128, 256, 512, 1024))
    priors = make(sizes, torch.device("cpu"))
    total = boxes * batch
    height, width = sizes[0]
    center = torch.rand(total, 2, generator=generator) * torch.tensor([8.0 * width, 8.0 * height])
    half = 4 * 50 ** torch.rand(total, 2, generator=generator)
    image = torch.arange(batch).repeat_interleave(boxes)
    classes = torch.randint(CLASSES, (total,), generator=generator)
    gt = GroundTruth(torch.cat((center - half, center + half), 1), classes, image)
    noise = torch.randn(batch, len(priors), 4, generator=generator)
    side = (priors.boxes[:, 2:] - priors.boxes[:, :2]).repeat(1, 2)
    logits = torch.randn(batch, len(priors), CLASSES, generator=generator)
    return priors, gt, Predictions(priors.boxes + 0.1 * noise * side, logits)


def dense(rule: Rule, priors: Priors, gt: GroundTruth, predictions: Predictions) -> Tensor:
    """Returns the gt index (N, P) over all pairs, image by image like the releases."""
    images, first = [], 0
    for n, (boxes, logits) in enumerate(zip(predictions.boxes, predictions.logits, strict=True)):
        here = gt.image_index == n
        index = rule(Image(priors, gt.boxes[here], gt.classes[here], boxes, logits))
        images.append(torch.where(index >= 0, index + first, index))
        first += int(here.sum())
    return torch.stack(images)


def cases(args: argparse.Namespace) -> list[tuple[str, int, int]]:
    """Returns (rule, boxes per image, images) of each case.

    Only the first rule and the rule with two peers get larger batches: the dense forms of all rules
    take one image after the other, and ours all boxes at once.
    """
    first, *further = args.batch
    single = [(rule, boxes, first) for rule in args.rules for boxes in args.boxes]
    both = [r for r in args.rules if r in (args.rules[0], "task_aligned")]
    return single + [(rule, boxes, n) for rule in both for n in further for boxes in args.boxes]


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.quick:
        args.rules, args.boxes, args.batch = args.rules[:2], [10, 100], [1]
    return [row for case in cases(args) for row in case_rows(*case, args)]


def case_rows(rule: str, boxes: int, batch: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    inputs = [to_device(part, args.device) for part in scene(boxes, batch)]
    assigner = ASSIGNERS[rule]()
    if isinstance(
        assigner, torch.nn.Module
    ):  # it changes its labels with what it learns from the scene
        assigner.eval()

    def ours() -> Tensor:
        return assigner(*inputs).gt_index

    peers: dict[str, Call] = {}
    same, note = "", ""
    gigabytes = 4 * MATRICES[rule] * len(inputs[0]) * boxes / 1e9
    if gigabytes > args.dense_limit or boxes * batch > args.dense_boxes:
        note = f"dense not run: about {gigabytes:.1f} GB for each of {batch} images"
        if rule in SAME and boxes * batch <= args.dense_boxes:  # ours over all pairs
            compare(rule, ours(), dense(SAME[rule], *inputs))
    else:
        peers["dense P x T"] = lambda: dense(DENSE[rule], *inputs)
        same = compare(rule, ours(), dense(SAME.get(rule, DENSE[rule]), *inputs))
    name = f"{rule}, {boxes} boxes x {batch}"
    found = measure(
        *("assignment", name, ours, peers, args),
        limit="writing the labels",
        at_limit=lambda: blank_labels(inputs[2].boxes),
        same=same,
        note=note,
    )
    return found + (ultralytics_rows(name, ours, inputs, args) if rule == "task_aligned" else [])


def blank_labels(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gt index and quality (N, P) of a batch of background."""
    shape = boxes.shape[:2]
    return boxes.new_full(shape, -1, dtype=torch.int64), boxes.new_zeros(shape)


def ultralytics_rows(
    case: str, ours: Callable[[], Tensor], inputs: list[Any], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Compares task-aligned assignment with Ultralytics', of CIoU and with enlarged tiny boxes."""
    peer = "ultralytics TaskAlignedAssigner"
    assigner = ultralytics_assigner()
    if assigner is None:
        return [Row("assignment", case, peer=peer, note="not installed").to_dict()]
    priors, gt, predictions = inputs
    batch, boxes = len(predictions.boxes), len(gt) // len(predictions.boxes)
    if 4e-9 * 8 * batch * boxes * len(priors) > args.dense_limit:
        return [Row("assignment", case, peer=peer, note="not run: (N, T, P) too large").to_dict()]
    packed = gt.boxes.view(batch, boxes, 4), gt.classes.view(batch, boxes, 1)
    arguments = (
        *(predictions.scores, predictions.boxes, priors.centers),
        *(packed[1], packed[0], torch.ones_like(packed[1], dtype=torch.float32)),
    )
    *_, learns, index = assigner(*arguments)
    index = torch.where(learns, index + boxes * torch.arange(batch)[:, None].to(index), -1)
    share = (ours() == index).float().mean().item()
    same = f"{100 * share:.2f} % of labels (CIoU; tiny boxes made larger)"
    note = "gives (N, P, C) targets, too"
    return measure(
        *("assignment", case, ours, {peer: lambda: assigner(*arguments)}, args),
        same=same,
        note=note,
    )


def ultralytics_assigner() -> Callable[..., tuple[Tensor, ...]] | None:
    """Makes Ultralytics' assigner; None if it is not installed."""
    try:
        from ultralytics.utils.tal import TaskAlignedAssigner
    except ImportError:
        return None
    return TaskAlignedAssigner(topk=13, num_classes=CLASSES, alpha=1.0, beta=6.0)


def compare(rule: str, mine: Tensor, theirs: Tensor) -> str:
    """Says what was compared. Raises AssertionError if the gt indices differ."""
    assert (mine >= 0).any()
    differ = (mine != theirs).float().mean().item()
    allowed = max(MAY_DIFFER.get(rule, 0), ON_GPU if mine.is_cuda else 0)
    assert differ <= allowed, f"{rule}: {differ:.2e} of the labels differ"
    return "gt index of every prior" if not differ else f"gt index but for {differ:.1e}"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rules", nargs="+", choices=list(ASSIGNERS), default=list(ASSIGNERS))
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 10, 100, 1000, 5000])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="number of images")
    parser.add_argument(
        "--dense-limit", type=float, default=8.0, help="memory in GB that the dense form may take"
    )
    parser.add_argument(
        "--dense-boxes", type=int, default=16000, help="largest number of boxes in the batch"
    )
    processor_time(parser)


if __name__ == "__main__":
    main(__doc__, rows, arguments)
