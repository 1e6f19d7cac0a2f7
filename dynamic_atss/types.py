"""The tensors that travel from disk to loss, each with its layout fixed here.

Letters in shapes: N images, L levels, P priors of all levels, T ground-truth boxes of the whole
batch, C classes, D detections of one image. Boxes are float32 xyxy in pixels of the resized image;
classes are 0..C-1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ground_truth import GroundTruth as GroundTruth
from dynamic_atss.ground_truth import joined as joined

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BACKGROUND = -1
IGNORE = -2
POINT_SIDE = 8  # strides: the side of ATSS's anchors

_T = TypeVar("_T", bound="DataclassInstance")


def to_device(value: _T, device: torch.device | str) -> _T:
    """A copy of a dataclass whose tensors (also those of nested dataclasses) lie on `device`.

    HOST of its class names properties that are read before the move and go along.
    """

    def move(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part.to(device, non_blocking=True)
        return to_device(part, device) if hasattr(part, "__dataclass_fields__") else part

    names = [f.name for f in fields(value)]
    moved = replace(value, **{n: move(getattr(value, n)) for n in names})
    for name in getattr(value, "HOST", ()):  # while it is known without a wait for the device
        vars(moved)[name] = getattr(value, name)
    return moved


@dataclass(frozen=True)
class Batch:
    """Images padded at the right and the bottom to one size.

    images (N, 3, H, W) uint8 RGB · sizes (N, 2) int64, (height, width) without the padding ·
    image_ids, the data set's own ids · original_sizes, (height, width) of the files · iteration,
    0-based, of the training step that the batch is for · scaled, the same images at the further
    sizes of test-time augmentation (left on the host by `to_device`)
    """

    images: Tensor
    sizes: Tensor
    gt: GroundTruth
    image_ids: tuple[int, ...]
    original_sizes: tuple[tuple[int, int], ...]
    iteration: int = 0
    scaled: tuple[Batch, ...] = ()


@dataclass(frozen=True)
class Level:
    """One feature level's lattice of priors: location (row, column) lies at `(column + offset) *
    stride`."""

    height: int
    width: int
    stride: int

    @property
    def locations(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Priors:
    """The priors of all levels; order: level, row, column, anchor of the location.

    boxes (P, 4) · levels, one `Level` each · per_location, anchors at each location (A) ·
    offset, of the lattice in strides (0.5: centres of the cells) · sized, False for points, whose
    boxes are one stride wide and only tell where they are: see `with_size`

    >>> import torch
    >>> from dynamic_atss import Priors
    >>> from dynamic_atss.types import Level
    >>> boxes = torch.tensor([[-28.0, -28, 36, 36], [-20, -28, 44, 36]])
    >>> priors = Priors(boxes, levels=(Level(height=1, width=2, stride=8),))
    >>> priors.centers.tolist(), priors.strides.tolist()
    ([[4.0, 4.0], [12.0, 4.0]], [8.0, 8.0])
    """

    boxes: Tensor
    levels: tuple[Level, ...]
    per_location: int = 1
    offset: float = 0.5
    sized: bool = True

    HOST: ClassVar = ("largest",)

    def __len__(self) -> int:
        return self.boxes.shape[0]

    @cached_property
    def centers(self) -> Tensor:
        """(P, 2), x and y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def numbers(self) -> Tensor:
        """(P,) int64: 0..P-1."""
        return torch.arange(len(self), device=self.boxes.device)

    @cached_property
    def largest(self) -> tuple[float, ...]:
        """The longest side of each level's boxes, on the host."""
        counts = [level.locations * self.per_location for level in self.levels]
        side = (self.boxes[:, 2:] - self.boxes[:, :2]).amax(-1)
        return tuple(float(x.max()) if len(x) else 0.0 for x in side.split(counts))

    def with_size(self) -> Priors:
        """Priors that have a size: of points ATSS's anchors at the same places, squares of 8
        strides."""
        return self if self.sized else self._squares

    @cached_property
    def _squares(self) -> Priors:
        half = (self.strides[:, None] * POINT_SIDE - 1) / 2
        boxes = torch.cat((self.centers - half, self.centers + half), dim=1)
        squares = replace(self, boxes=boxes, sized=True)
        # Known without a wait for the device.
        vars(squares)["largest"] = tuple(x.stride * POINT_SIDE - 1.0 for x in self.levels)
        return squares

    @cached_property
    def level(self) -> Tensor:
        """(P,) int64: the number of each prior's level."""
        counts = torch.tensor([level.locations * self.per_location for level in self.levels])
        return torch.arange(len(counts)).repeat_interleave(counts).to(self.boxes.device)

    @cached_property
    def strides(self) -> Tensor:
        """(P,) float32: the stride of each prior's level."""
        strides = torch.tensor([float(level.stride) for level in self.levels])
        return strides.to(self.boxes.device)[self.level]


@dataclass(frozen=True)
class Predictions:
    """What an assigner may read of the network's output, detached.

    boxes (N, P, 4) · logits (N, P, C) · iteration, 0-based, of the training that it is from ·
    quality (N, P), a logit, None where the head has no such branch · extras, the head's further
    maps (N, P, ...) by name

    >>> import torch
    >>> from dynamic_atss import Predictions
    >>> Predictions(boxes=torch.zeros(1, 2, 4), logits=torch.zeros(1, 2, 3)).scores[0, 0]
    tensor([0.5000, 0.5000, 0.5000])
    """

    boxes: Tensor
    logits: Tensor
    iteration: int = 0
    quality: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def scores(self) -> Tensor:
        """(N, P, C) in [0, 1]."""
        return self.logits.sigmoid()


@dataclass(frozen=True)
class Assignment:
    """What every prior learns.

    gt_index (N, P) int64: an index into the packed ground truth, or BACKGROUND, or IGNORE ·
    quality (N, P) float32 in [0, 1]: the soft target of positives, 0 elsewhere

    More, for rules that say more; None and empty say what most rules mean:

    weight (N, P) >= 0, read where gt_index >= 0, None: 1. It multiplies the prior's class term at
    the class of its box, its box term and its quality term, and enters no normaliser. A prior of
    weight 0 is no positive: it has a box only so that `negative` has a class.
    negative (N, P) in [0, 1], read where gt_index >= 0, None: 0. How much the prior is background
    for the class of its box: that class's term becomes weight * (term of a positive) + negative *
    (term of the background). Of the other classes every prior is background.
    losses: loss terms of the rule's own, scalars, their names "loss_...".
    metrics: numbers for the log, as those of `modeling.terms.Terms`.

    Gradients reach what the rule computes `weight`, `negative` and `losses` from; `quality` is
    detached.

    >>> import torch
    >>> from dynamic_atss import Assignment
    >>> found = Assignment(torch.tensor([[1, -1, 1, -2]]), torch.tensor([[0.9, 0, 0.5, 0]]))
    >>> found.positive
    tensor([[ True, False,  True, False]])
    >>> found.learnt(2)  # box 0 has no positive
    tensor([False,  True])
    """

    gt_index: Tensor
    quality: Tensor
    weight: Tensor | None = None
    negative: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def positive(self) -> Tensor:
        """(N, P) bool: with a box, and of a weight above 0."""
        has_box = self.gt_index >= 0
        return has_box if self.weight is None else has_box & (self.weight.detach() > 0)

    def learnt(self, boxes: int) -> Tensor:
        """(T,) bool: which of the T = `boxes` boxes have a positive."""
        flags = torch.zeros(boxes + 1, dtype=torch.bool, device=self.gt_index.device)
        index = torch.where(self.positive, self.gt_index, boxes)
        return flags.scatter_(0, index.flatten(), True)[:boxes]


def rows(values: Tensor, index: Tensor) -> Tensor:
    """values[index], and zeros where the index is negative, as `gt_index` is of what is not
    positive; values may have no rows."""
    padded = torch.cat((values, values.new_zeros(1, *values.shape[1:])))
    return padded[torch.where(index < 0, len(values), index)]


@dataclass(frozen=True)
class Detections:
    """What is found in one image, best first.

    boxes (D, 4) · scores (D,) · classes (D,) int64 in 0..C-1 · convention, what x2 and y2 are
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    convention: BoxConvention = BoxConvention.LEGACY

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, index: Tensor) -> Detections:
        """Those at an index or a mask."""
        chosen = self.boxes[index], self.scores[index], self.classes[index]
        return Detections(*chosen, self.convention)
