"""Time and peak memory of the assignment rules beside the same rules over all P x T pairs.

    python benchmarks/assignment.py [--rules atss fcos] [--boxes 10 100 1000] [--batch 1 16]
        [--threads 2] [--processor-time]

One image of 800 x 1344 has 22,400 priors. The dense forms are in `dense`: plain PyTorch,
vectorised over boxes as the releases are, image by image. Both must give the same gt index on every
prior, but for what rounding may decide (MAY_DIFFER). A call of more than a second is repeated once
to three times. The dense form of PAA fits its mixtures by scikit-learn, one box after the other, as
released. Ultralytics' assigner is a further peer where it is installed.

On a machine that others use, `--threads 1 --processor-time` is the steadier comparison: with more
threads, each operator waits for its slowest one. `2> /dev/null` drops the profiler's own notes.
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
# Scores of top-k fall by millionths from anchor to anchor, and are equal on both sides of a centre
# but for the rounding: float32 decides a few (of 22,400 priors 2 at 1,000 boxes, 20 at 5,000, on an
# Intel Xeon). The losses that PAA fits its mixtures to differ in the last bit.
MAY_DIFFER = {"topk": 2e-3, "paa": 1e-4}

ON_GPU = 1e-4  # of all priors: sums go in another order there, so that near ties may fall otherwise


def scene(
    boxes: int, batch: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> tuple[Priors, GroundTruth, Predictions]:
    """Random boxes of sides 8 to 400 pixels; predictions near the priors with random logits."""
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
    """gt index (N, P) over all pairs; one image after the other, as in the releases."""
    images, first = [], 0
    for n, (boxes, logits) in enumerate(zip(predictions.boxes, predictions.logits, strict=True)):
        here = gt.image == n
        index = rule(Image(priors, gt.boxes[here], gt.classes[here], boxes, logits))
        images.append(torch.where(index >= 0, index + first, index))
        first += int(here.sum())
    return torch.stack(images)


def cases(args: argparse.Namespace) -> list[tuple[str, int, int]]:
    """(rule, boxes per image, images). Larger batches only for the first rule and for the one that
    has two peers: the others work on one image after the other there, too, ours on all boxes at
    once."""
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
    if isinstance(assigner, torch.nn.Module):  # what it learns of the scene changes its labels
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
    """gt index and quality (N, P) of nothing but background."""
    shape = boxes.shape[:2]
    return boxes.new_full(shape, -1, dtype=torch.int64), boxes.new_zeros(shape)


def ultralytics_rows(
    case: str, ours: Callable[[], Tensor], inputs: list[Any], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Task-aligned assignment beside Ultralytics', of CIoU and with tiny boxes made larger."""
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
    """None where it is not installed."""
    try:
        from ultralytics.utils.tal import TaskAlignedAssigner
    except ImportError:
        return None
    return TaskAlignedAssigner(topk=13, num_classes=CLASSES, alpha=1.0, beta=6.0)


def compare(rule: str, mine: Tensor, theirs: Tensor) -> str:
    """What was compared. Raises AssertionError where the gt indices are not the same."""
    assert (mine >= 0).any()
    differ = (mine != theirs).float().mean().item()
    allowed = max(MAY_DIFFER.get(rule, 0), ON_GPU if mine.is_cuda else 0)
    assert differ <= allowed, f"{rule}: {differ:.2e} of the labels differ"
    return "gt index of every prior" if not differ else f"gt index but for {differ:.1e}"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rules", nargs="+", choices=list(ASSIGNERS), default=list(ASSIGNERS))
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 10, 100, 1000, 5000])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="images")
    parser.add_argument("--dense-limit", type=float, default=8.0, help="GB the dense form may take")
    parser.add_argument("--dense-boxes", type=int, default=16000, help="of the batch, at most")
    processor_time(parser)


if __name__ == "__main__":
    main(__doc__, rows, arguments)
