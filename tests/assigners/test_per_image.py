"""Compares rules for one image with the same packed rules, and tests invalid results."""

import random

import oracle
import pytest
import torch
from helpers_per_image import PACKED, PER_IMAGE
from helpers_reference import read_arrays
from test_random_scenes import random_scene

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.per_image import PerImage
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import BACKGROUND, IGNORE, GroundTruth, Predictions

STRIDES = (8, 16, 32, 64, 128)
CASES = {
    "per_image_atss": ("assign_atss.npz", "", AnchorGenerator(STRIDES, [8.0 * s for s in STRIDES])),
    "per_image_fcos": ("assign_fcos.npz", "plain_", PointGenerator(STRIDES)),
}


@pytest.mark.parametrize("name", PER_IMAGE)
def test_labels_of_the_release(golden, name):
    """Compares every prior of the five cases, also with the packed rule."""
    file, variant, generator = CASES[name]
    arrays = read_arrays(golden, file)
    compared = different = 0
    for case in ("case00", "case01", "case06", "case08", "case09"):
        sizes = tuple(map(tuple, arrays[f"{case}_level_hw"].tolist()))
        priors = generator(sizes, torch.device("cpu"))
        boxes, classes = arrays[f"{case}_gt_boxes"], arrays[f"{case}_gt_labels"] - 1
        gt = GroundTruth(boxes, classes, torch.zeros_like(classes))
        predictions = Predictions(priors.boxes[None], torch.zeros(1, len(priors), 80))
        found = PER_IMAGE[name]()(priors, gt, predictions)
        packed = ASSIGNERS[PACKED[name]]()(priors, gt, predictions)
        labels = torch.where(found.positive, classes[found.gt_index.clamp(min=0)] + 1, 0)
        assert torch.equal(labels[0], arrays[f"{case}_{variant}labels"])
        torch.testing.assert_close(found.quality, packed.quality, rtol=1e-5, atol=1e-6)
        different += int((found.gt_index != packed.gt_index).sum())
        compared += len(priors)
    print(f"{name}: {different} of {compared} labels differ")
    assert compared == 17231 and different == 0


@pytest.mark.parametrize("name", PER_IMAGE)
def test_labels_of_random_scenes(name):
    """Compares with the packed rule, except for boxes that the oracle calls doubtful."""
    rng = random.Random(12)
    compared = different = positives = 0
    for _ in range(300):
        priors, gt, predictions, _ = random_scene(rng)
        found = PER_IMAGE[name]()(priors, gt, predictions)
        packed = ASSIGNERS[PACKED[name]]()(priors, gt, predictions)
        compared += found.gt_index.numel()
        positives += int(packed.positive.sum())
        unequal = found.gt_index != packed.gt_index
        if not unequal.any():
            continue
        different += int(unequal.sum())
        levels = [(level.height, level.width) for level in priors.levels]
        lists = (gt.boxes.tolist(), gt.image_index.tolist(), predictions.boxes.tolist())
        answer = oracle.assign(
            "atss", priors.boxes.tolist(), levels, priors.per_location, *lists, 9
        )
        either = set(found.gt_index[unequal].tolist()) | set(packed.gt_index[unequal].tolist())
        assert name == "per_image_atss" and answer.doubtful & either
    print(f"{name}: {different} of {compared} labels differ, all near ties; {positives=}")
    assert positives > 300
    assert different <= 20


class Returns(PerImage):
    """Returns a given result."""

    def __init__(self, *found):
        self.found = found

    def assign(self, priors, boxes, classes, predicted_boxes, logits):
        return self.found


def returning(*found):
    priors = AnchorGenerator((8,), (64,))(((1, 3),), torch.device("cpu"))
    boxes = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 0, 9, 9]])
    gt = GroundTruth(boxes, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 2, 2]))
    predictions = Predictions(priors.boxes.expand(3, -1, 4), torch.zeros(3, 3, 2))
    return Returns(*found)(priors, gt, predictions)


def test_indices_become_those_of_the_batch():
    index, quality = torch.tensor([0, BACKGROUND, IGNORE]), torch.tensor([0.5, 0.7, torch.nan])
    result = returning(index, quality)
    assert result.gt_index.tolist() == [[0, -1, -2], [-1, -1, -1], [1, -1, -2]]
    assert result.quality.tolist() == [[0.5, 0, 0], [0, 0, 0], [0.5, 0, 0]]


INDEX, QUALITY = torch.tensor([0, -1, -1]), torch.tensor([0.5, 0, 0])


@pytest.mark.parametrize(
    "found, message",
    [
        ((INDEX,), r"return two tensors, \(index, quality\)"),
        ((INDEX, 0.5), "return two tensors"),
        ((INDEX[:2], QUALITY), r"index has shape \(2,\); give a number per prior, \(3,\)"),
        ((INDEX, QUALITY[:, None]), r"quality has shape \(3, 1\)"),
        ((INDEX.int(), QUALITY), r"index is torch\.int32; give torch\.int64"),
        ((INDEX, INDEX), r"quality is torch\.int64; give floating-point"),
        ((INDEX + 1, QUALITY), r"index holds 1; give 0 to 0, BACKGROUND \(-1\) or IGNORE \(-2\)"),
        ((INDEX - 2, QUALITY), "index holds -3"),
        ((INDEX, QUALITY * 3), r"quality of a positive is 1\.5; give numbers in \[0, 1\]"),
        ((INDEX, QUALITY * torch.nan), "quality of a positive is nan"),
    ],
)
def test_what_does_not_fit_is_one_line(found, message):
    with pytest.raises(UserError, match=f"^Returns.assign: {message}") as caught:
        returning(*found)
    assert "\n" not in str(caught.value)


def test_a_rule_without_the_method():
    class Empty(PerImage):
        pass

    with pytest.raises(TypeError, match=r"Empty .*assign"):
        Empty()


@pytest.mark.parametrize("bases", [(PerImage, torch.nn.Module), (torch.nn.Module, PerImage)])
def test_a_rule_for_one_image_does_not_learn(bases):
    with pytest.raises(TypeError, match=r"^Own: a PerImage rule cannot learn.* packed form"):
        type("Own", bases, {})
