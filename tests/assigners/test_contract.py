"""Tests the contract of every rule in `ASSIGNERS`, alone and within `AtLeastOne`.

A new rule is tested when it is listed there. Rules for one image fulfil the same contract, except
that `waits` is True.

If numbers move to another place of a tensor, the quality may round otherwise. PyTorch computes the
end of a tensor without vectors, where the last bit of its sigmoid and softplus differs.
"""

import pickle
import random
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers_per_image import PER_IMAGE
from helpers_rounding import assert_rounded

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.assigners.rules.poto import POTO
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import Assignment, GroundTruth, Predictions, Priors, to_device

CPU = torch.device("cpu")
# Rules whose positives need not have their centre in the box.
MAY_BE_OUTSIDE = ("max_iou", "simota", "paa", "small_target_aligned", "rfla", "simd")
ONE_EACH = ("poto",)  # rules in which each of several equal boxes takes a prior
MAY_TIE = ("dsla",)  # rules in which different boxes often have equal scores
MAPS = ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1))
LAST_WINS = ("rfla", "simd")  # which of several boxes gets a prior, as released
CLASSES = 5
HOSTILE = {
    "smaller than a stride": [[21.0, 21, 23, 24]],
    "without extent": [[40.0, 40, 40, 40]],
    "larger than the image": [[-300.0, -200, 600, 500]],
    "outside of the image": [[-500.0, -500, -400, -380]],
    "far outside": [[9000.0, 9000, 9100, 9100]],
    "a thin line": [[0.0, 50, 127, 50.5]],
    "a corner": [[0.0, 0, 5, 5]],
}


# Forms of a rule that work differently from the default.
FORMS = {"poto_not_exact": partial(POTO, exact=False)}
RULES = ASSIGNERS | FORMS | PER_IMAGE


@pytest.fixture(params=RULES)
def rule(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["alone", "at_least_one"])
def wrapped(request):
    return request.param


@pytest.fixture
def assigner(rule, wrapped):
    """Makes the rule in evaluation mode, because a rule may learn from its calls in training."""
    alone = RULES[rule]()
    found = AtLeastOne(alone) if wrapped else alone
    return found.eval() if isinstance(found, torch.nn.Module) else found


@pytest.fixture
def patient(assigner):
    """Gives a rule that does not wait for the device."""
    if getattr(assigner, "waits", False):
        pytest.skip("the rule says that it waits for the device")
    return assigner


def make_priors(maps=MAPS, **kwargs) -> Priors:
    strides = (8, 16, 32, 64, 128)[: len(maps)]
    return AnchorGenerator(strides, [8.0 * s for s in strides], **kwargs)(maps, CPU)


def make_points(maps=MAPS) -> Priors:
    return PointGenerator((8, 16, 32, 64, 128)[: len(maps)])(maps, CPU)


def make_gt(*images) -> GroundTruth:
    """Packs the boxes of each image."""
    boxes = [torch.tensor(b, dtype=torch.float32).view(-1, 4) for b in images]
    image = torch.arange(len(images)).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    return GroundTruth(torch.cat(boxes), torch.arange(len(image)) % CLASSES, image)


def make_predictions(priors: Priors, images: int) -> Predictions:
    """Makes predictions near the priors without negative sides, as every coder does."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(images, len(priors), 4, generator=generator)
    boxes = priors.boxes + 8 * noise
    boxes = torch.cat((boxes[..., :2], torch.maximum(boxes[..., :2], boxes[..., 2:])), -1)
    return Predictions(boxes, torch.randn(images, len(priors), CLASSES, generator=generator))


def random_boxes(count: int, seed: int) -> list[list[float]]:
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([128.0, 96.0])
    half = 4 * 16 ** torch.rand(count, 2, generator=generator)
    return torch.cat((center - half, center + half), dim=1).tolist()


def check(result: Assignment, gt: GroundTruth, images: int, priors: int) -> None:
    """Checks the invariants of an assignment."""
    assert result.gt_index.shape == result.quality.shape == (images, priors)
    assert result.gt_index.dtype == torch.int64
    assert result.quality.dtype == torch.float32
    assert not result.quality.requires_grad
    assert result.quality.isfinite().all()
    assert ((result.quality >= 0) & (result.quality <= 1)).all()
    assert (result.quality[~result.positive] == 0).all()
    assert (result.gt_index >= -2).all() and (result.gt_index < max(len(gt), 1)).all()
    n, _ = result.positive.nonzero().unbind(1)
    assert torch.equal(gt.image_index[result.gt_index[result.positive]], n)


def run(assigner, priors, gt, images):
    result = call_rule(assigner, priors, gt, make_predictions(priors, images))
    check(result, gt, images, len(priors))
    return result


@pytest.mark.filterwarnings("error")
def test_no_boxes(assigner):
    result = run(assigner, make_priors(), make_gt([], []), 2)
    assert not result.positive.any()


def test_an_image_without_boxes_beside_one_with(assigner):
    result = run(assigner, make_priors(), make_gt([], random_boxes(6, 0)), 2)
    assert not result.positive[0].any()
    assert result.positive[1].any()


def test_ordinary_boxes_are_learnt(assigner):
    boxes = [[16.0, 16, 80, 80], [60, 20, 124, 90]]
    result = run(assigner, make_priors(), make_gt(boxes), 1)
    assert result.gt_index[result.positive].unique().tolist() == [0, 1]


@pytest.mark.parametrize("boxes", HOSTILE.values(), ids=HOSTILE)
def test_hostile_boxes(rule, wrapped, assigner, boxes):
    priors = make_priors()
    gt = make_gt(boxes)
    result = run(assigner, priors, gt, 1)
    if wrapped:
        overlap = BoxConvention.LEGACY.iou(priors.boxes, gt.boxes)
        assert result.positive.any() or not overlap.any()
    if wrapped or rule in MAY_BE_OUTSIDE:
        return
    inside = priors.centers[result.positive[0]]
    assert (inside > gt.boxes[0, :2]).all() and (inside < gt.boxes[0, 2:]).all()


@pytest.mark.parametrize(
    "maps",
    [((1, 1),), ((1, 30),), ((30, 1), (15, 1)), ((2, 2), (1, 1), (1, 1)), ((1, 1),) * 5],
)
def test_levels_smaller_than_the_number_of_candidates(assigner, maps):
    run(assigner, make_priors(maps), make_gt(random_boxes(5, 1), random_boxes(3, 2)), 2)


@pytest.mark.filterwarnings("error")
def test_one_candidate_has_no_spread(rule, assigner):
    if rule == "simd":
        pytest.skip("has a threshold of its own, which this anchor does not reach")
    result = run(assigner, make_priors(((1, 1),)), make_gt([[0.0, 0, 8, 8]]), 1)
    assert result.gt_index.tolist() == [[0]]  # the threshold is the score, not NaN


def test_several_anchors_at_a_location(assigner):
    priors = make_priors(aspect_ratios=(0.5, 1.0, 2.0), scales_per_octave=3)
    assert priors.per_location == 9
    assert run(assigner, priors, make_gt(random_boxes(5, 3)), 1).positive.any()


def test_the_first_of_equal_boxes_wins(rule, assigner, wrapped):
    if rule in LAST_WINS:
        pytest.skip("the last one wins")
    box = [16.0, 16, 80, 80]
    once = run(assigner, make_priors(), make_gt([box]), 1)
    gt = make_gt([box, box, box])
    thrice = run(assigner, make_priors(), replace(gt, classes=gt.classes * 0), 1)
    assert once.positive.any()
    if wrapped or rule in ONE_EACH:  # the other boxes take the remaining priors
        assert thrice.gt_index[thrice.positive].unique().tolist() == [0, 1, 2]
        thrice = replace(thrice, gt_index=torch.where(once.positive, thrice.gt_index, -1))
        thrice = replace(thrice, quality=torch.where(once.positive, thrice.quality, 0.0))
    assert torch.equal(once.positive, thrice.positive)
    assert (thrice.gt_index[thrice.positive] == 0).all()
    assert_rounded(thrice.quality, once.quality)


def test_the_first_of_equal_boxes_wins_in_random_scenes(rule, assigner, wrapped):
    """Lists of any length give equal boxes equal scores, also in elements that fill no vector."""
    if rule in LAST_WINS:
        pytest.skip("the last one wins")
    if wrapped or rule == "poto":
        pytest.skip("each of the equal boxes gets a prior")
    rng, positives = random.Random(3), 0
    for _ in range(12):
        others = random_boxes(rng.randint(0, 2), rng.randint(0, 99))
        low, side = [rng.uniform(0, 30) for _ in "xy"], [rng.uniform(8, 90) for _ in "xy"]
        box = [*low, *(a + b for a, b in zip(low, side, strict=True))]
        gt = make_gt([*others, *[box] * rng.randint(2, 6)])
        gt.classes[len(others) :] = 1
        found = run(assigner, make_priors(), gt, 1)
        assert (found.gt_index <= len(others)).all()
        positives += int((found.gt_index == len(others)).sum())
    assert positives >= 12


def test_the_order_of_boxes_does_not_matter(rule, assigner):
    if rule in LAST_WINS:
        pytest.skip("of several boxes that want one prior the last one wins")
    priors, gt = make_priors(), make_gt(random_boxes(30, 4))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    straight = run(assigner, priors, gt, 1)
    other = GroundTruth(gt.boxes[order], gt.classes[order], gt.image_index)
    shuffled = run(assigner, priors, other, 1)
    assert_rounded(shuffled.quality, straight.quality)
    assert torch.equal(straight.positive, shuffled.positive)
    if rule in MAY_TIE:
        return
    back = torch.where(shuffled.positive, order[shuffled.gt_index.clamp(min=0)], -1)
    assert torch.equal(back, torch.where(straight.positive, straight.gt_index, -1))
    assert torch.equal(straight.gt_index < 0, shuffled.gt_index < 0)


def test_a_batch_is_its_images(assigner):
    priors = make_priors()
    images = [random_boxes(7, 5), [], random_boxes(20, 6), random_boxes(1, 7)]
    gt, predictions = make_gt(*images), make_predictions(priors, len(images))
    batch = assigner(priors, gt, predictions)
    first = 0
    for n, boxes in enumerate(images):
        here = slice(first, first + len(boxes))
        alone = GroundTruth(gt.boxes[here], gt.classes[here], gt.image_index[here] * 0)
        part = Predictions(predictions.boxes[n : n + 1], predictions.logits[n : n + 1])
        single = assigner(priors, alone, part)
        index = torch.where(single.positive, single.gt_index + first, single.gt_index)
        assert torch.equal(index[0], batch.gt_index[n])
        assert_rounded(single.quality[0], batch.quality[n], units=16)  # powers of an IoU
        first += len(boxes)


def test_deterministic_and_leaves_its_inputs_alone(assigner):
    priors, gt = make_priors(), make_gt(random_boxes(40, 8))
    predictions = make_predictions(priors, 1)
    before = [x.clone() for x in (priors.boxes, gt.boxes, predictions.boxes, predictions.logits)]
    random_state = torch.get_rng_state()
    results = [assigner(priors, gt, predictions) for _ in range(3)]
    assert all(torch.equal(results[0].gt_index, r.gt_index) for r in results)
    assert all(torch.equal(results[0].quality, r.quality) for r in results)
    assert torch.equal(random_state, torch.get_rng_state())
    after = (priors.boxes, gt.boxes, predictions.boxes, predictions.logits)
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_predictions_that_are_not_finite_do_not_raise(assigner, value):
    """The trainer reports them by the loss."""
    priors, gt = make_priors(), make_gt(random_boxes(5, 17))
    predictions = make_predictions(priors, 1)
    predictions = Predictions(predictions.boxes + value, predictions.logits + value)
    assert assigner(priors, gt, predictions).gt_index.shape == (1, len(priors))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_boxes_that_are_not_finite_give_no_quality_that_is_not(rule, assigner, value):
    """Tries every subset of the coordinates of a box around the priors."""
    if rule in PER_IMAGE:
        pytest.skip("what such a rule gives is checked when it is called")
    priors = make_priors()
    boxes = torch.tensor([0.0, -10, 60, 70]).repeat(15, 1)
    boxes[torch.arange(1, 16)[:, None] >> torch.arange(4) & 1 > 0] = value
    infinite = torch.tensor([[0.0, -torch.inf, 50, torch.inf], [-torch.inf] * 2 + [torch.inf] * 2])
    for box in (*boxes, *infinite):
        found = assigner(priors, make_gt([box.tolist()]), make_predictions(priors, 1))
        assert found.quality.isfinite().all(), box
        assert ((found.quality >= 0) & (found.quality <= 1)).all(), box


def test_copies_assign_the_same(assigner):
    """Models are copied for their moving average, and pickled."""
    priors, gt = make_priors(), make_gt(random_boxes(5, 18))
    predictions = make_predictions(priors, 1)
    expected = assigner(priors, gt, predictions)
    for copy in (deepcopy(assigner), pickle.loads(pickle.dumps(assigner))):
        assert torch.equal(copy(priors, gt, predictions).gt_index, expected.gt_index)


def test_no_gradient_flows(assigner):
    priors, gt = make_priors(), make_gt(random_boxes(5, 9))
    predictions = make_predictions(priors, 1)
    predictions.boxes.requires_grad_()
    predictions.logits.requires_grad_()
    result = assigner(priors, gt, predictions)
    assert not result.quality.requires_grad and result.quality.grad_fn is None


def test_never_waits_for_the_device(patient):
    """The meta device has no values. `.item()`, `nonzero`, boolean indexing, a branch on a value
    and a loop over images or boxes raise there."""
    priors, gt = make_priors(), make_gt(random_boxes(4, 10), random_boxes(3, 11))
    later = replace(make_predictions(priors, 2), iteration=1)  # only iteration 0 reads values
    inputs = [to_device(x, "meta") for x in (priors, gt, later)]
    result = patient(*inputs)
    assert result.gt_index.device.type == "meta"
    assert result.gt_index.shape == (2, len(priors))


def test_never_loops_over_images_or_boxes(patient):
    """54 more images, or 90 more boxes, call fewer than 50 more operators: less than one each.

    Some more are no loop: a list is padded if its length is no multiple of a vector.
    """
    priors = make_priors()

    def operators(images, boxes):
        gt = make_gt(*(random_boxes(boxes, n) for n in range(images)))
        predictions = make_predictions(priors, images)
        patient(priors, gt, predictions)  # creates the cached constants
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
            patient(priors, gt, predictions)
        return sum(event.count for event in record.key_averages() if "aten::" in event.key)

    few = operators(6, 5)
    assert operators(60, 5) < few + 50
    assert operators(6, 20) < few + 50


@pytest.mark.parametrize("maps", [MAPS, ((1, 30),), ((1, 1),) * 5])
def test_points(assigner, maps):
    """Includes boxes that fit no level."""
    images = (random_boxes(12, 15), [], [[16.0, 16, 80, 80]], HOSTILE["smaller than a stride"])
    result = run(assigner, make_points(maps), make_gt(*images), len(images))
    assert not result.positive[1].any()
    assert maps != MAPS or (result.positive[0].any() and result.positive[2].any())


def test_points_have_the_place_of_anchors(assigner):
    """A rule gives anchors of 8 strides and points at the same locations the same boxes."""
    priors, gt = make_priors(), make_gt(random_boxes(30, 16))
    predictions = make_predictions(priors, 1)
    anchors, points = (call_rule(assigner, p, gt, predictions) for p in (priors, make_points()))
    assert torch.equal(anchors.gt_index, points.gt_index)
    torch.testing.assert_close(anchors.quality, points.quality)


@pytest.mark.cuda
def test_cuda_does_not_synchronize(patient):
    priors = to_device(make_priors(), "cuda")
    gt = to_device(make_gt(random_boxes(10, 14)), "cuda")
    predictions = to_device(make_predictions(make_priors(), 1), "cuda")
    predictions = replace(predictions, iteration=1)  # the first iteration is checked
    patient(priors, gt, predictions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        patient(priors, gt, predictions)
    finally:
        torch.cuda.set_sync_debug_mode("default")
