"""Compares train steps and inference of R-50 detectors with torchvision's FCOS and RetinaNet v2.

    python benchmarks/detectors.py [--device cuda] [--batch 16] [--size 800 1344]
        [--dtype bfloat16] [--channels-last] [--largest]
        [--forms plain compiled graphs compiled+graphs]

All detectors do the same work:
- the same ResNet-50: stride in the 3x3 convolutions; stem, first stage and batch norms frozen
- P3 to P7 of 256 channels; towers of four convolutions with group norm
- SGD over all parameters as one group
- the same images and boxes; images need no resizing and are padded to the same size. They are on
  the device before the clock starts, as uint8 for ours and as float for torchvision's

torchvision's RetinaNet is retinanet_resnet50_fpn_v2 on that backbone: group norm in its head, P6
from C5 (from P5 in the others), 9 anchors at each location, GIoU loss. v2 trains its batch norms.

`--forms` measures ours plain, compiled (MODEL.COMPILE), with CUDA graphs (MODEL.CUDA_GRAPHS), and
with both. A run with CUDA graphs records training alone. Here inference is recorded, too, as all
images have one size. A form that fails is a row that says why, and the exit code is 1. `--largest`
instead looks for the largest batch whose train step fits into the memory, of ours (plain) and of
torchvision's. A CPU pretends to hold 3 images.

The note counts the operations of convolutions, forward and backward, in 10^9. On a GPU it also has
the operations a second, and their share of the peak where the GPU's is known. The memory on a GPU
is all that the detector allocates, as torch.cuda.max_memory_allocated says it; on a CPU it is what
the step allocates. The limit is our convolutions alone, one after the other. Weights are random.
The class branch is scaled so that 1 of 200 scores of an image passes the threshold. Thresholds and
numbers of candidates and detections are ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from common import Call, Row, alternate, failed_row, main, measure
from detector_steps import PEERS, Convolutions, Step, free, operations, ours, peer, repeated, scene
from largest_batch import largest_batch
from peaks import peak_of_gpu

from dynamic_atss.types import Batch, to_device

SECONDS = 20.0  # of repeats at least; a step on a CPU takes seconds
WORK = (("train step", "train"), ("inference", "infer"))
FORMS = {
    "plain": [],
    "compiled": ["MODEL.COMPILE", "True"],
    "graphs": ["MODEL.CUDA_GRAPHS", "True"],
    "compiled+graphs": ["MODEL.COMPILE", "True", "MODEL.CUDA_GRAPHS", "True"],
}
ON_CPU = 3  # images that a CPU pretends to hold, for a dry run of --largest
STEP = 8  # --largest: the largest batch is found to so many images
Found = dict[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, help="number of images; default 1, on a GPU 16")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="short and long side; default 800 800, on a GPU 800 1344",
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
        "--forms",
        nargs="+",
        choices=tuple(FORMS),
        help="forms of ours; default plain, on a GPU all",
    )
    parser.add_argument("--largest", action="store_true", help="look for the largest batch instead")


def filled(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the defaults that depend on other arguments."""
    gpu = args.device == "cuda"
    given = {name: value for name, value in vars(args).items() if value is not None}
    defaults = {
        "batch": 16 if gpu and not args.quick else 1,
        "size": (320, 320) if args.quick else (800, 1344 if gpu else 800),
        "dtype": "bfloat16" if gpu else "float32",
        "channels_last": gpu,
        "forms": tuple(FORMS) if gpu else ("plain",),
    }
    seconds = args.seconds if args.quick or gpu else max(args.seconds, SECONDS)
    return argparse.Namespace(**(defaults | given | {"seconds": seconds}))


def title(args: argparse.Namespace, batch: int | None = None) -> str:
    layout = ", channels-last" if args.channels_last else ""
    return f"{batch or args.batch} x {args.size[0]} x {args.size[1]}, {args.dtype}{layout}"


def rows(args: argparse.Namespace) -> Iterator[Found]:
    args = filled(args)
    yield from largest_rows(args) if args.largest else form_rows(args)


def form_rows(args: argparse.Namespace) -> Iterator[Found]:
    """Yields the rows of each form, each beside torchvision's detectors."""
    batch = to_device(scene(args.batch, tuple(args.size), args.boxes), args.device)
    stage, peers = f"whole {WORK[0][0]}", {}
    for who in (f"torchvision {kind}" for kind in PEERS):
        try:
            peers[who] = Step(peer(who.removeprefix("torchvision "), args), args, batch)
        except Exception as error:  # any error: the others are still measured
            yield failed_row(stage, title(args), error, args.device, who)
    counted: dict[str, Counted] = {}
    for form in args.forms:
        free(args.device)
        try:
            yield from rows_of_form(form, batch, peers, counted, args)
        except Exception as error:  # any error: the other forms are still measured
            yield failed_row(stage, f"{title(args)}{suffix(form)}", error, args.device)


def rows_of_form(
    form: str,
    batch: Batch,
    peers: dict[str, Step],
    counted: dict[str, Counted],
    args: argparse.Namespace,
) -> Iterator[Found]:
    """Yields the rows of one form. `counted` keeps what is the same for all forms."""
    model = ours(args, FORMS[form])
    if getattr(model, "graphs", None) is not None:  # else a CPU, or a form without graphs
        model.graphs.tests = True
    step = Step(model, args, batch)
    for stage, name in WORK:
        if name not in counted:
            counted[name] = Counted.of(name, step, peers, args.batch)
        yield from measured(stage, name, form, step, peers, counted[name], args)


def suffix(form: str) -> str:
    return "" if form == "plain" else f", {form.replace('+', ' + ')}"


@dataclass(frozen=True)
class Counted:
    """Holds the operations of a step.

    Attributes:
        note: 10^9 operations of ours and of each peer, as text, or "".
        tflop: 10^12 operations of ours for an image.
        convolutions: ours alone.
    """

    note: str
    tflop: float
    convolutions: Call

    @staticmethod
    def of(name: str, step: Step, peers: dict[str, Step], batch: int) -> Counted:
        all_ = {"ours": step, **peers}
        counts = {who: operations(getattr(one, name)) for who, one in all_.items()}
        note = ", ".join(f"{who} {count / 1e9:.0f}" for who, count in counts.items())
        alone = Convolutions(getattr(step, name))
        return Counted(f"{note} GFLOP; ", counts["ours"] / batch / 1e12, alone)


def measured(
    stage: str,
    name: str,
    form: str,
    step: Step,
    peers: dict[str, Step],
    counted: Counted,
    args: argparse.Namespace,
) -> list[Found]:
    """Measures "train" or "infer" of a form in turn with the peers."""
    found = measure(
        f"whole {stage}",
        f"{title(args)}{suffix(form)}",
        getattr(step, name),
        {who: getattr(other, name) for who, other in peers.items()},
        args,
        limit="our convolutions alone",
        at_limit=counted.convolutions,
        memory=form == "plain" and args.device == "cpu",
        note=counted.note if form == "plain" else "",
    )
    made = []
    for row in found:
        if args.device == "cuda":
            other = peers[row["peer"]].peaks[name] if row["peer"] else None
            row |= {"ours_mb": step.peaks[name], "peer_mb": other}
        made.append(with_rate(row, args.batch, counted.tflop, args.dtype))
    return made


def with_rate(row: Found, images: int, tflop: float, dtype: str) -> Found:
    """Adds images and operations per second to the note and to the numbers.

    Args:
        tflop: 10^12 operations of ours for an image.
    """
    known = {"": row["ours_s"], "peer_": row["peer_s"]}
    rates = {f"{who}images_per_second": images / s for who, s in known.items() if s is not None}
    who = ("ours ", f"{row['peer'].split(' ')[0]} ") if len(rates) > 1 else ("",)
    said = ", ".join(f"{one}{rate:.3g}" for one, rate in zip(who, rates.values(), strict=True))
    note, numbers = f"{row['note']}{said} images/s", {**row["numbers"], **rates}
    if row["device"] == "cuda":
        speed, peak = tflop * rates["images_per_second"], peak_of_gpu(dtype)
        numbers |= {"tflop_per_image": tflop, "tflops": speed}
        note += f"; {tflop:.3g} TFLOP an image, {speed:.0f} TFLOP/s"
        if peak is not None:
            numbers["share_of_peak"] = speed / peak
            note += f" ({speed / peak:.0%} of the peak)"
    return {**row, "note": note, "numbers": numbers}


def largest_rows(args: argparse.Namespace) -> Iterator[Found]:
    """Yields the largest batch of ours and of torchvision's detectors, with its speed."""
    for name in ("ours", *PEERS):
        free(args.device)
        try:
            yield from largest_of(name, args)
        except Exception as error:  # any error: the others are still measured
            yield failed_row("largest batch", f"{title(args)}: {name}", error, args.device)


def largest_of(name: str, args: argparse.Namespace) -> list[Found]:
    """Finds the largest batch of one detector; measures train steps and inference with it."""
    base = to_device(scene(args.batch, tuple(args.size), args.boxes), args.device)
    model = ours(args) if name == "ours" else peer(name, args)
    step = Step(model, args, repeated(base, 1))

    def forget() -> None:
        step.inputs = ()
        step.optimizer.zero_grad(set_to_none=True)  # those of a step that broke off
        free(args.device)

    def attempt(images: int) -> None:
        if args.device == "cpu" and images > ON_CPU:
            raise torch.OutOfMemoryError("a dry run")
        forget()
        step.load(repeated(base, images))
        step.train()

    images = largest_batch(attempt, forget, args.batch, STEP if args.device == "cuda" else 1)
    forget()
    step.load(repeated(base, images))
    made = []
    for stage, kind in WORK:
        if args.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        (seconds,) = alternate([getattr(step, kind)], args.seconds, args.device)
        peak = torch.cuda.max_memory_allocated() / 1e6 if args.device == "cuda" else None
        rate = images / seconds
        case = f"{name}: {title(args, images)}"
        made.append(
            Row(
                *(f"largest batch, {stage}", case, seconds),
                ours_mb=peak,
                note=f"{rate:.3g} images/s",
                device=args.device,
                numbers={"images": images, "images_per_second": rate},
            ).to_dict()
        )
    return made


if __name__ == "__main__":
    main(__doc__, rows, arguments)
