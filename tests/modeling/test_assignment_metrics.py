"""Compares positives by box size with loops."""

import math

import pytest
import torch

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.modeling.assignment_metrics import (
    BY_SIZE,
    SIZES,
    assignment_metrics,
    is_of_assignment,
    size_of,
)
from dynamic_atss.modeling.gather_targets import Matched
from dynamic_atss.types import (
    BACKGROUND,
    IGNORE,
    Assignment,
    GroundTruth,
    Level,
    Priors,
    to_device,
)

EDGES = (8, 16, 32, 64, 128, 256)


def place(side: float) -> int:
    return sum(side >= edge for edge in EDGES)


def priors() -> Priors:
    return Priors(torch.zeros(40, 4), (Level(4, 8, 8), Level(2, 4, 16)))


def truth(count: int, *, regions: int = 0, convention=BoxConvention.EXACT) -> GroundTruth:
    torch.manual_seed(0)
    corner, side = torch.rand(count, 2) * 50, 2 ** (torch.rand(count, 2) * 8 + 1)
    ignore = torch.arange(count) >= count - regions if regions else None
    image = torch.arange(count) % 2
    boxes = torch.cat((corner, corner + side), 1)
    return GroundTruth(boxes, torch.zeros_like(image), image, ignore, convention)


def measured(gt: GroundTruth, index: torch.Tensor, weight=None) -> dict[str, float]:
    target = Assignment(index, (index >= 0).float(), weight)
    boxes = torch.zeros(*index.shape, 4)
    found = Matched(target, target.positive, target.quality, weight, boxes, boxes, boxes)
    return {n: x.tolist() for n, x in assignment_metrics(found, priors(), gt).items()}


def test_the_place_of_a_size_at_every_edge():
    sides = [edge * (1 + d) for edge in (*EDGES, 1, 1024) for d in (-1e-3, 0, 1e-3)]
    areas = torch.tensor([side * side for side in sides])
    assert size_of(areas).tolist() == [place(side) for side in sides]
    odd = torch.tensor([0.0, 1e-30, math.inf, 16 * 3, 63.999996, 64.0])
    assert size_of(odd).tolist() == [0, 0, 6, 0, 0, 1]


@pytest.mark.parametrize("convention", BoxConvention)
def test_positives_by_size_are_those_of_a_loop(convention):
    """The last two boxes are crowds. A prior of weight 0 is not positive."""
    gt = truth(12, regions=2, convention=convention)
    index = torch.randint(-2, 10, (2, 40))
    weight = (torch.rand(2, 40) > 0.2).float()
    found = measured(gt, index, weight)
    for size, name in enumerate(SIZES):
        counts = []
        for number, (x1, y1, x2, y2) in enumerate(gt.boxes[:10].tolist()):
            width, height = x2 - x1 + convention.value, y2 - y1 + convention.value
            if place(math.sqrt(width * height)) == size:
                chosen = (index == number) & (weight > 0)
                counts.append(int(chosen.sum()))
        assert found[f"boxes_{name}"] == len(counts) / 2
        assert found[f"positives_{name}"] == sum(counts) / 2
        assert found[f"boxes_without_positive_{name}"] == counts.count(0) / 2
    assert sum(found[f"positives_{name}"] for name in SIZES) == found["positives"]
    missed = sum(found[f"boxes_without_positive_{name}"] for name in SIZES)
    assert missed == found["boxes_without_positive"]


def test_without_boxes_all_are_zero():
    index = torch.full((2, 40), BACKGROUND)
    index[0, 3] = IGNORE
    found = measured(truth(0), index)
    assert all(found[f"{kind}_{size}"] == 0 for kind in BY_SIZE for size in SIZES)


def test_nothing_waits_for_the_device():
    """Tensors of the meta device have no values, so reading one fails."""
    gt = to_device(truth(12, regions=2), "meta")
    index = torch.zeros(2, 40, dtype=torch.int64, device="meta")
    found = Assignment(index, index.float())
    boxes = torch.zeros(2, 40, 4, device="meta")
    matched = Matched(found, found.positive, found.quality, None, boxes, boxes, boxes)
    metrics = assignment_metrics(matched, to_device(priors(), "meta"), gt)
    assert all(value.is_meta and value.numel() in (1, 2) for value in metrics.values())
    with pytest.raises(RuntimeError):
        metrics["positives_8to16"].item()


def test_their_names_are_known():
    assert is_of_assignment("boxes_without_positive_8to16")
    assert is_of_assignment("one/positives_256up") and is_of_assignment("boxes_0to8")
    assert not is_of_assignment("boxes") and not is_of_assignment("positives_8to15")
