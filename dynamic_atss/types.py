"""Defines the tensors that travel from disk to loss, and their layouts.

Letters in shapes: N images, L levels, P priors of all levels, T ground-truth boxes of the whole
batch, C classes, D detections of one image. Boxes are float32 xyxy in pixels of the resized image;
classes are 0..C-1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.ground_truth import GroundTruth as GroundTruth
from dynamic_atss.ground_truth import joined as joined

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BACKGROUND = -1
IGNORE = -2
POINT_SIDE = 8  # side of ATSS's anchors in strides

_T = TypeVar("_T", bound="DataclassInstance")


def map_tensors(value: _T, change: Callable[[Tensor], Tensor]) -> _T:
    """Copies a dataclass with change(tensor) for each tensor, also those of nested dataclasses.

    The properties that HOST of its class names are computed before the change and copied, so that
    nothing has to wait for the device later.
    """

    def changed(entry: Any) -> Any:
        if isinstance(entry, Tensor):
            return change(entry)
        return map_tensors(entry, change) if hasattr(entry, "__dataclass_fields__") else entry

    names = [f.name for f in fields(value)]
    copied = replace(value, **{n: changed(getattr(value, n)) for n in names})
    for name in getattr(value, "HOST", ()):
        vars(copied)[name] = getattr(value, name)
    return copied


def to_device(value: _T, device: torch.device | str) -> _T:
    """Copies a dataclass to `device` with all tensors, see `map_tensors`.

    A `Batch` with a buffer needs one copy for all its tensors, which then are views of the copy.
    """
    buffer = getattr(value, "buffer", None)
    if buffer is None:
        return map_tensors(value, lambda x: x.to(device, non_blocking=True))
    there = buffer.to(device, non_blocking=True)

    def moved(x: Tensor) -> Tensor:
        # A tensor that replaced one of the buffer has memory of its own.
        same = x.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
        return view_like(x, there) if same else x.to(device, non_blocking=True)

    return map_tensors(replace(cast(Any, value), buffer=None), moved)


def view_like(x: Tensor, buffer: Tensor) -> Tensor:
    """Gives the view of `buffer` (bytes,) uint8 that `x` is of another such buffer.

    The view has the position, type, shape and strides of `x`, whose memory has no gaps.
    """
    size = x.element_size()
    begin = x.storage_offset() * size
    memory = buffer[begin : begin + x.numel() * size]
    return memory.view(x.dtype).as_strided(x.shape, x.stride())


@dataclass(frozen=True)
class Batch:
    """Holds images, padded at the right and the bottom to one size, with their ground truth.

    Attributes:
        images: (N, 3, H, W) uint8 RGB.
        sizes: (N, 2) int64, height and width without the padding.
        gt: the packed ground truth.
        image_ids: the ids in the data set.
        original_sizes: (height, width) of each file.
        iteration: 0-based iteration of the training step that uses the batch.
        scaled: the same images at the other sizes of test-time augmentation; `to_device` does not
            move them.
        buffer: (bytes,) uint8, the memory of all tensors of the batch, see `data.pack`; None: each
            tensor has its own.
    """

    images: Tensor
    sizes: Tensor
    gt: GroundTruth
    image_ids: tuple[int, ...]
    original_sizes: tuple[tuple[int, int], ...]
    iteration: int = 0
    scaled: tuple[Batch, ...] = ()
    buffer: Tensor | None = None


@dataclass(frozen=True)
class Level:
    """Describes the lattice of priors of a feature level.

    The location (row, column) lies at x = (column + offset) * stride; y is (row + offset) * stride.
    """

    height: int
    width: int
    stride: int

    @property
    def locations(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Priors:
    """Holds the priors of all levels, ordered by level, row, column and anchor of the location.

    Attributes:
        boxes: (P, 4).
        levels: the lattice of each level.
        per_location: the number of anchors at each location.
        offset: offset of the lattice in strides; 0.5: the centres of the cells.
        sized: False for points. Their boxes are one stride wide and only mark the position: see
            `with_size`.

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
        """Gives the centres (P, 2), x and y."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    @cached_property
    def numbers(self) -> Tensor:
        """Gives the indices (P,) int64: 0..P-1."""
        return torch.arange(len(self), device=self.boxes.device)

    @cached_property
    def largest(self) -> tuple[float, ...]:
        """Gives the longest side of the boxes of each level, on the host."""
        counts = [level.locations * self.per_location for level in self.levels]
        side = (self.boxes[:, 2:] - self.boxes[:, :2]).amax(-1)
        return tuple(float(x.max()) if len(x) else 0.0 for x in side.split(counts))

    def with_size(self) -> Priors:
        """Gives priors with a size.

        Points become ATSS's anchors at the same positions: squares of 8 strides.
        """
        return self if self.sized else self._squares

    @cached_property
    def _squares(self) -> Priors:
        half = (self.strides[:, None] * POINT_SIDE - 1) / 2
        boxes = torch.cat((self.centers - half, self.centers + half), dim=1)
        squares = replace(self, boxes=boxes, sized=True)
        # Computed here, so that `largest` need not wait for the device.
        vars(squares)["largest"] = tuple(x.stride * POINT_SIDE - 1.0 for x in self.levels)
        return squares

    @cached_property
    def level(self) -> Tensor:
        """Gives the level index (P,) int64 of each prior."""
        counts = torch.tensor([level.locations * self.per_location for level in self.levels])
        return torch.arange(len(counts)).repeat_interleave(counts).to(self.boxes.device)

    @cached_property
    def strides(self) -> Tensor:
        """Gives the stride (P,) float32 of each prior's level."""
        strides = torch.tensor([float(level.stride) for level in self.levels])
        return strides.to(self.boxes.device)[self.level]


@dataclass(frozen=True)
class Predictions:
    """Holds the outputs of the network that an assigner may read, detached.

    Attributes:
        boxes: (N, P, 4).
        logits: (N, P, C).
        iteration: 0-based iteration of the training.
        quality: (N, P) logits; None if the head has no such branch.
        extras: further maps (N, P, ...) of the head, by name.

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
        """Gives the class scores (N, P, C) in [0, 1]."""
        return self.logits.sigmoid()


@dataclass(frozen=True)
class Assignment:
    """Says what every prior learns.

    Gradients flow through `weight`, `negative` and `losses` to the inputs from which a rule
    computes them. `quality` is detached. Most rules set only the first two attributes.

    Attributes:
        gt_index: (N, P) int64, an index into the packed ground truth, BACKGROUND or IGNORE.
        quality: (N, P) float32 in [0, 1], the soft target of positives; 0 elsewhere.
        weight: (N, P) >= 0, used where gt_index >= 0; None: 1. It multiplies the prior's class term
            at the class of its box, its box term and its quality term, and enters no normaliser. A
            prior of weight 0 is no positive: its box only gives the class for `negative`.
        negative: (N, P) in [0, 1], used where gt_index >= 0; None: 0. It says how much the prior is
            background for the class of its box. The term of that class becomes weight * (positive
            term) + negative * (background term). For other classes every prior is background.
        losses: further loss terms of the rule, scalars, with names "loss_...".
        metrics: numbers for the log, as in `modeling.terms.Terms`.
        divisors: (2,) > 0; None: the head divides by its usual sums, such as the number of
            positives. The first number divides all terms of positives, and the second one divides
            all background terms. The head averages them over the processes.

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
    divisors: Tensor | None = None

    @property
    def positive(self) -> Tensor:
        """Flags (N, P) bool the priors with a box and a weight above 0."""
        has_box = self.gt_index >= 0
        return has_box if self.weight is None else has_box & (self.weight.detach() > 0)

    def learnt(self, boxes: int) -> Tensor:
        """Flags (T,) bool which of the T = `boxes` boxes have a positive."""
        flags = torch.zeros(boxes + 1, dtype=torch.bool, device=self.gt_index.device)
        index = torch.where(self.positive, self.gt_index, boxes)
        return flags.scatter_(0, index.flatten(), True)[:boxes]


def rows(values: Tensor, index: Tensor) -> Tensor:
    """Gives values[index], and zeros where the index is negative. `values` may have no rows.

    Args:
        values: (T, ...).
        index: any shape, such as a `gt_index`, which is negative for priors without a box.
    """
    padded = torch.cat((values, values.new_zeros(1, *values.shape[1:])))
    return padded[torch.where(index < 0, len(values), index)]


@dataclass(frozen=True)
class Detections:
    """Holds the detections of one image, best first.

    Attributes:
        boxes: (D, 4).
        scores: (D,).
        classes: (D,) int64 in 0..C-1.
        convention: the meaning of x2 and y2.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    convention: BoxConvention = BoxConvention.LEGACY

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, index: Tensor) -> Detections:
        """Selects detections by an index or a mask."""
        return Detections(
            self.boxes[index],
            self.scores[index],
            self.classes[index],
            self.convention,
        )
