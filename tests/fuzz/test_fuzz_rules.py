"""Every rule, alone, within `AtLeastOne` and with regions: boxes and predictions of any numbers."""

import pytest
import torch
from helpers_fuzz import tensors
from hypothesis import given
from hypothesis import strategies as st

from dynamic_atss.assigners import ASSIGNERS, nearest, pairs, ranges
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.ignore_regions import IgnoreRegions
from dynamic_atss.assigners.reference import PLAIN
from dynamic_atss.assigners.rules import max_iou, paa
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth, Predictions

pytestmark = pytest.mark.slow

IMAGES, CLASSES = 2, 3
MAPS = (((5, 7), (3, 4), (2, 2)), ((1, 1),) * 3, ((1, 9), (1, 5), (1, 3)))
MAKE = AnchorGenerator((8, 16, 32), (64, 128, 256))
ORDINARY = 1e6  # pixels, up to which areas and their sums are numbers
OPERATORS = [
    (module, name, PLAIN[operator.name().split("::")[1]])
    for module in (max_iou, nearest, paa, pairs, ranges)
    for name, operator in vars(module).items()
    if isinstance(operator, torch._ops.OpOverload) and operator.name().split("::")[1] in PLAIN
]


@st.composite
def scenes(draw, most=7):
    """Priors, ground truth with some regions, and predictions."""
    priors = MAKE(draw(st.sampled_from(MAPS)), torch.device("cpu"))
    count = draw(st.integers(0, most))
    image = sorted(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    boxes = draw(tensors((count, 4), torch.float32))
    gt = GroundTruth(boxes, torch.arange(count) % CLASSES, torch.tensor(image).long())
    shape = IMAGES, len(priors)
    predicted = priors.boxes + draw(tensors((*shape, 4), torch.float32)) / 4
    predicted = torch.cat((predicted[..., :2], predicted[..., :2].maximum(predicted[..., 2:])), -1)
    logits = draw(tensors((*shape, CLASSES), torch.float32)) / 4
    return priors, gt, Predictions(predicted, logits, draw(st.sampled_from([0, 1, 10**9])))


def made(name):
    """The rule, of which the second call gives what the first one gives."""
    return ASSIGNERS[name](**({"means": (6.13, 4.59)} if name == "simd" else {}))


def check(result, priors, gt, predictions):
    """Labels are in range whatever the numbers; quality, too, where the numbers are ordinary."""
    index, quality = result.gt_index, result.quality
    assert index.shape == quality.shape == (IMAGES, len(priors)) and index.dtype == torch.int64
    assert ((index >= -2) & (index < max(len(gt), 1))).all()
    image, prior = (index >= 0).nonzero().unbind(1)
    assert torch.equal(gt.image_index[index[image, prior]], image)
    read = (gt.boxes, predictions.boxes, predictions.logits)
    if all(bool((x.abs() <= ORDINARY).all()) for x in read):
        assert ((quality >= 0) & (quality <= 1)).all()
        assert (quality[~result.positive] == 0).all()


def plainly(rule, scene):
    """What the rule says without kernels."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, plain in OPERATORS:
            patch.setattr(module, name, plain)
        return rule(*scene)


def test_all_operators_are_replaced():
    assert {plain for _, _, plain in OPERATORS} == set(PLAIN.values())


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "at_least_one"])
@pytest.mark.parametrize("name", ASSIGNERS)
@given(scene=scenes())
def test_rules(name, wrapped, scene):
    rule = AtLeastOne(made(name)) if wrapped else made(name)
    before = [x.clone() for x in (scene[1].boxes, scene[2].boxes, scene[2].logits)]
    found, plain = rule(*scene), plainly(rule, scene)
    for after, x in zip((scene[1].boxes, scene[2].boxes, scene[2].logits), before, strict=True):
        torch.testing.assert_close(after, x, rtol=0, atol=0, equal_nan=True)
    check(found, *scene)
    check(plain, *scene)
    if name != "paa":  # where the two Gaussians nearly tie, either rounding may choose
        assert torch.equal(found.gt_index, plain.gt_index)
        torch.testing.assert_close(found.quality, plain.quality, equal_nan=True)


@pytest.mark.parametrize("name", ASSIGNERS)
@given(scene=scenes(), regions=st.integers(0, 3))
def test_regions(name, scene, regions):
    """Boxes at the end are regions: they change background alone."""
    priors, gt, predictions = scene
    flags = torch.arange(len(gt)) >= len(gt) - regions
    gt = GroundTruth(gt.boxes, gt.classes, gt.image_index, flags)
    rule = made(name)
    result = IgnoreRegions(rule)(priors, gt, predictions)
    check(result, priors, gt.objects, predictions)
    alone = rule(priors, gt.objects, predictions).gt_index
    changed = result.gt_index != alone
    assert (alone[changed] == -1).all() and (result.gt_index[changed] == -2).all()
