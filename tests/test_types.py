"""Tests the types that travel from disk to loss."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from dynamic_atss.types import (
    Assignment,
    Batch,
    Detections,
    GroundTruth,
    Level,
    Predictions,
    Priors,
    to_device,
)


def make_gt():
    return GroundTruth(torch.zeros(3, 4), torch.zeros(3).long(), torch.zeros(3).long())


def test_to_device_moves_nested_tensors_and_nothing_else():
    batch = Batch(
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.tensor([[4, 4]]),
        make_gt(),
        (17,),
        ((8, 8),),
    )
    moved = to_device(batch, "meta")
    tensors = (moved.images, moved.sizes, moved.gt.boxes, moved.gt.classes, moved.gt.image_index)
    assert {x.device.type for x in tensors} == {"meta"}
    assert moved.images.dtype == torch.uint8
    assert (moved.image_ids, moved.original_sizes) == ((17,), ((8, 8),))
    assert batch.images.device.type == batch.gt.boxes.device.type == "cpu"


def test_to_device_of_priors_keeps_the_lattice():
    priors = Priors(torch.zeros(12, 4), (Level(2, 3, 8),), per_location=2, offset=0.0)
    assert priors.centers.device.type == "cpu"
    moved = to_device(priors, "meta")
    assert (moved.levels, moved.per_location, moved.offset) == (priors.levels, 2, 0.0)
    assert moved.centers.device.type == "meta"  # not the cached tensor on the CPU


@pytest.mark.parametrize(
    "value",
    [
        make_gt(),
        Level(1, 1, 8),
        Priors(torch.zeros(1, 4), (Level(1, 1, 8),)),
        Predictions(torch.zeros(1, 1, 4), torch.zeros(1, 1, 1)),
        Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_frozen(value):
    name = next(iter(value.__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, None)


def test_lengths():
    assert len(make_gt()) == 3
    assert len(Priors(torch.zeros(6, 4), (Level(2, 3, 8),))) == 6
    assert len(Detections(torch.zeros(5, 4), torch.zeros(5), torch.zeros(5).long())) == 5
    assert Level(2, 3, 8).locations == 6


def test_centers_scores_and_positives():
    assert Priors(torch.tensor([[0.0, 2, 4, 10]]), (Level(1, 1, 8),)).centers.tolist() == [[2, 6]]
    logits = torch.tensor([[[0.0, 1000, -1000]]])
    assert Predictions(torch.zeros(1, 1, 4), logits).scores.tolist() == [[[0.5, 1, 0]]]
    index = torch.tensor([[-2, -1, 0, 4]])
    assert Assignment(index, index.float()).positive.tolist() == [[False, False, True, True]]
