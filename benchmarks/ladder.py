"""Measures what each means of speed adds to a train step: a ladder, one rung after the other.

    python benchmarks/ladder.py [--device cuda] [--batch 16] [--size 800 1344] [--boxes 7]
        [--rungs uint8 bfloat16 ...]

The lowest rung copies float32 images that the host has normalised, and takes plain PyTorch for the
class loss with dense targets (N, P, C), contiguous tensors, float32 (on a GPU in TF32) and an
optimizer that loops over the parameters. Each rung keeps what is below it and adds one thing. The
column "faster" compares with the rung below. A rung that fails is a row that says why, and the next
one continues from the last good rung; the exit code is 1 then. Compiled and recorded rungs need a
GPU. Each step copies its batch from pinned host memory to the device. The memory on a GPU is all
that the step allocates, weights included.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from common import Row, alternate, failed_row, main, peak_memory
from detector_steps import CLASSES, CONFIG, WARM_UP, free, scene, spread_scores
from focal import Scene, plain_focal, plain_quality_focal
from stages import pinned
from torch import Tensor

from dynamic_atss.builders import build_model
from dynamic_atss.config.load import load_config
from dynamic_atss.modeling.class_loss import ClassLoss
from dynamic_atss.modeling.detector import Detector
from dynamic_atss.types import Assignment, GroundTruth, to_device
from dynamic_atss.types import rows as rows_of

STAGE = "ladder of a train step"


@dataclass(frozen=True)
class Means:
    """Says what a train step uses.

    Attributes:
        uint8: True: the device gets bytes and normalises them.
        dtype: of the convolutions.
        channels_last: memory format of the convolutions.
        fused_loss: True: our operator with sparse targets.
        optimizer: options of torch.optim.SGD.
        compiled, graphs: torch.compile; CUDA graphs.
    """

    uint8: bool = False
    dtype: str = "float32"
    channels_last: bool = False
    fused_loss: bool = False
    optimizer: tuple[str, bool] = ("foreach", False)
    compiled: bool = False
    graphs: bool = False


# Rung -> what it changes.
RUNGS: dict[str, dict[str, Any]] = {
    "start": {},
    "uint8": {"uint8": True},
    "bfloat16": {"dtype": "bfloat16"},
    "channels-last": {"channels_last": True},
    "fused-loss": {"fused_loss": True},
    "foreach": {"optimizer": ("foreach", True)},
    "fused-optimizer": {"optimizer": ("fused", True)},
    "compiled": {"compiled": True},
    "graphs": {"graphs": True},
}
SAID = {
    "start": "float32 images, dense loss, loops",
    "uint8": "+ uint8 to the device",
    "bfloat16": "+ bfloat16",
    "channels-last": "+ channels-last",
    "fused-loss": "+ fused loss, sparse targets",
    "foreach": "+ foreach optimizer",
    "fused-optimizer": "+ fused optimizer",
    "compiled": "+ compiled",
    "graphs": "+ CUDA graphs",
}
ON_GPU = ("compiled", "graphs")


class DenseLoss(ClassLoss):
    """Computes the class loss in plain PyTorch from dense targets, as the releases do."""

    def __call__(
        self,
        logits: Tensor,
        target: Assignment,
        gt: GroundTruth,
        label: Tensor,
        divisor: Tensor,
        background_divisor: Tensor | None = None,
    ) -> Tensor:
        index = target.gt_index.flatten()
        classes = torch.where(index >= 0, rows_of(gt.classes, index), index)
        logits = logits.flatten(0, 1).float()
        hard = F.one_hot(classes.clamp(min=0), logits.shape[1]) * (classes >= 0)[:, None]
        hard = hard.to(logits.dtype)
        label = label.flatten().to(logits.dtype)
        made = Scene(logits, classes, label, hard, hard * label[:, None])
        loss = plain_focal if self.kind == "focal" else plain_quality_focal
        return loss(made) / divisor


class TrainStep:
    """Copies a batch to the device and takes a train step with the given means."""

    def __init__(self, means: Means, args: argparse.Namespace) -> None:
        given = ["DTYPE", means.dtype, "MODEL.CHANNELS_LAST", str(means.channels_last)]
        given += ["MODEL.RESNETS.STRIDE_IN_1X1", "False", "MODEL.COMPILE", str(means.compiled)]
        given += ["MODEL.CUDA_GRAPHS", "True"] if means.graphs else []
        self.device = args.device
        self.model: Detector = build_model(load_config(CONFIG, given), CLASSES).to(args.device)
        batch = scene(args.batch, tuple(args.size), args.boxes)
        self._spread(to_device(batch, args.device))
        if not means.uint8:
            batch = replace(batch, images=self._normalized(batch))
            self.model.normalize = self._cast  # type: ignore[method-assign]
        self.batch = pinned(batch) if args.device == "cuda" else batch
        if not means.fused_loss:
            kept = self.model.criterion.class_loss
            self.model.criterion.class_loss = DenseLoss(kept.kind, kept.alpha, kept.gamma)
        learnt = [p for p in self.model.parameters() if p.requires_grad]
        options = dict([means.optimizer])
        # The rate is so small that the weights stay random over all timed steps.
        self.optimizer = torch.optim.SGD(learnt, 1e-7, 0.9, weight_decay=1e-4, **options)
        self.model.train()

    def _spread(self, batch: Any) -> None:
        def infer() -> Any:
            with torch.inference_mode():
                return self.model(batch)

        self.model.eval()
        with torch.compiler.set_stance("force_eager"):
            spread_scores(self.model, infer)

    def _normalized(self, batch: Any) -> Tensor:
        """Gives the images (N, 3, H, W) as the network takes them, on the host."""
        moved = to_device(batch, self.device)
        return self.model.normalize(moved.images, moved.sizes).cpu().contiguous()

    def _cast(self, images: Tensor, sizes: Tensor) -> Tensor:
        return images.to(memory_format=self.model.memory_format)

    def __call__(self) -> None:
        losses = self.model(to_device(self.batch, self.device)).losses
        sum(losses.values()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def climb(
    rungs: list[str],
    make: Callable[[Means], Callable[[], object]],
    time_of: Callable[[Callable[[], object]], tuple[float, float]],
    args: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """Yields a row for each rung. A rung that fails is left out of the next ones.

    Args:
        make: makes the step of some means.
        time_of: gives seconds and 10^6 bytes of a step.
    """
    good, before, below = Means(), None, ""
    for rung in rungs:
        means = replace(good, **RUNGS[rung])
        free(args.device)
        try:
            seconds, megabytes = time_of(make(means))
        except Exception as error:  # any error: the ladder goes on without this rung
            yield failed_row(STAGE, SAID[rung], error, args.device)
            continue
        rate = args.batch / seconds
        row = Row(
            *(STAGE, SAID[rung], seconds, below, before),
            ours_mb=megabytes,
            note=f"{rate:.3g} images/s",
            device=args.device,
            numbers={"images_per_second": rate},
        )
        yield row.to_dict()
        good, before, below = means, seconds, f"the rung {rung!r}"


def measured(step: Callable[[], object], args: argparse.Namespace) -> tuple[float, float]:
    """Returns the median seconds of a step, and its peak memory in 10^6 bytes."""
    if args.device == "cpu":
        (seconds,) = alternate([step], args.seconds, args.device)
        return seconds, peak_memory(step) / 1e6
    torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP["cuda"]):
        step()
    (seconds,) = alternate([step], args.seconds, args.device)
    return seconds, torch.cuda.max_memory_allocated() / 1e6


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    gpu = args.device == "cuda"
    small = args.quick or not gpu
    args.batch = args.batch or (1 if small else 16)
    args.size = args.size or ((64, 64) if small else (800, 1344))
    rungs = [rung for rung in args.rungs if gpu or rung not in ON_GPU]
    return climb(rungs, lambda m: TrainStep(m, args), lambda step: measured(step, args), args)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, help="number of images; default 1, on a GPU 16")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="default 64 64, on a GPU 800 1344"
    )
    parser.add_argument("--boxes", type=int, default=7, help="number of boxes in each image")
    parser.add_argument("--rungs", nargs="+", choices=tuple(RUNGS), default=list(RUNGS))


if __name__ == "__main__":
    main(__doc__, rows, arguments)
