"""Tests regions to ignore with every rule: against a loop, in the losses, and for waits."""

import pickle
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_atss.assigners import ASSIGNERS
from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.assigners.ignore_regions import IgnoreRegions
from dynamic_atss.modeling.class_loss import CLASS_LOSSES, ClassLoss
from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.criterion import Criterion, RetinaNetCriterion
from dynamic_atss.modeling.head import HeadOutput
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import BACKGROUND, IGNORE, GroundTruth, Predictions, joined, to_device

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
MAPS = ((12, 16), (6, 8), (3, 4), (2, 2))
STRIDES = (8, 16, 32, 64)
CLASSES = 3
PRIORS = {
    "anchors": AnchorGenerator(STRIDES, [2.0 * s for s in STRIDES])(MAPS, CPU),
    "nine": AnchorGenerator(STRIDES, STRIDES, (0.5, 1.0, 2.0), 2.0, 3)(MAPS, CPU),
    "points": PointGenerator(STRIDES)(MAPS, CPU),
    "corners": PointGenerator(STRIDES, offset=0.0)(MAPS, CPU),
}


def random_boxes(count, seed, largest=16):
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([128.0, 96.0])
    half = 4 * largest ** torch.rand(count, 2, generator=generator)
    return torch.cat((center - half, center + half), dim=1)


def truth(boxes, image, ignore):
    """Makes the ground truth of one image.

    Args:
        ignore: True for regions.
    """
    zeros = torch.zeros(len(boxes), dtype=torch.int64)
    classes = torch.arange(len(boxes)) % CLASSES
    return GroundTruth(boxes, classes, zeros + image, (zeros + int(ignore)).bool())


def make_gt(objects=(4, 0, 3), regions=(3, 2, 0), seed=0):
    """Packs the boxes of each image as a loader does."""
    counts = enumerate(zip(objects, regions, strict=True))
    parts = [
        truth(random_boxes(count, seed + 10 * n + flag), n, flag)
        for n, pair in counts
        for flag, count in enumerate(pair)
    ]
    return joined(parts)


def make_predictions(priors, images):
    generator = torch.Generator().manual_seed(7)
    noise = 8 * torch.randn(images, len(priors), 4, generator=generator)
    boxes = priors.boxes + noise
    boxes = torch.cat((boxes[..., :2], torch.maximum(boxes[..., :2], boxes[..., 2:])), -1)
    return Predictions(boxes, torch.randn(images, len(priors), CLASSES, generator=generator))


def covered_by_hand(priors, gt, images):
    """Compares every prior with every region in plain Python."""
    boxes, covered = priors.boxes.tolist(), torch.zeros(images, len(priors), dtype=torch.bool)
    for region, n in zip(gt.regions.boxes.tolist(), gt.regions.image_index.tolist(), strict=True):
        for p, (x1, y1, x2, y2) in enumerate(boxes):
            width = max(min(x2, region[2]) - max(x1, region[0]) + 1, 0)
            height = max(min(y2, region[3]) - max(y1, region[1]) + 1, 0)
            covered[n, p] |= width * height >= 0.5 * (x2 - x1 + 1) * (y2 - y1 + 1)
    return covered


@pytest.fixture(params=ASSIGNERS)
def name(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["alone", "at_least_one"])
def rule(request, name):
    given = {"means": (6.13, 4.59)} if name == "simd" else {}  # both calls need equal means
    made = ASSIGNERS[name](**given)
    return AtLeastOne(made) if request.param else made


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_mostly_in_a_region_is_no_background_and_all_else_stays(rule, kind, seed):
    priors, gt = PRIORS[kind], make_gt(seed=100 * seed)
    predictions = make_predictions(priors, 3)
    before = call_rule(rule, priors, gt.objects, predictions)
    after = IgnoreRegions(rule)(priors, gt, predictions)
    covered = covered_by_hand(priors, gt, 3)
    background = before.gt_index == BACKGROUND
    assert (covered & background).any() and (~covered & background).any()
    wanted = torch.where(covered & background, IGNORE, before.gt_index)
    assert torch.equal(after.gt_index, wanted)
    assert torch.equal(after.quality, before.quality)
    n, _ = after.positive.nonzero().unbind(1)  # the indices refer to the complete ground truth
    assert torch.equal(gt.image_index[after.gt_index[after.positive]], n)
    assert not gt.ignore[after.gt_index[after.positive]].any()


def test_half_a_box_is_enough_and_less_is_not():
    """The first level's anchors are 16 pixels wide with the "+1". The first is -3.5 to 11.5."""
    priors, rule = PRIORS["anchors"], IgnoreRegions(ASSIGNERS["atss"]())
    predictions = make_predictions(priors, 1)
    for right, enough in ((3.5, True), (3.4, False)):
        gt = truth(torch.tensor([[-3.5, -3.5, right, 11.5]]), 0, True)
        index = rule(priors, gt, predictions).gt_index[0]
        assert priors.boxes[0].tolist() == [-3.5, -3.5, 11.5, 11.5]
        assert index[0] == (IGNORE if enough else BACKGROUND)
        assert (index[1:] == BACKGROUND).all()


def test_a_region_a_little_narrower_than_a_stride_covers_two_of_each():
    """Points at 4 and 12 stand for 0.5..7.5 and 8.5..15.5. With the "+1" this is over half."""
    priors = PointGenerator((8,))(((3, 3),), CPU)
    gt = truth(torch.tensor([[4.2, 4.2, 11.8, 11.8]]), 0, True)
    result = IgnoreRegions(ASSIGNERS["fcos"]())(priors, gt, make_predictions(priors, 1))
    ignored = (result.gt_index == IGNORE).view(3, 3)
    assert not ignored.any() and covered_by_hand(priors, gt, 1).sum() == 0  # 0.54 * 0.54
    gt = truth(torch.tensor([[4.2, -9, 11.8, 30.0]]), 0, True)
    result = IgnoreRegions(ASSIGNERS["fcos"]())(priors, gt, make_predictions(priors, 1))
    assert (result.gt_index == IGNORE).view(3, 3).tolist() == [[True, True, False]] * 3


def test_positives_stay_in_a_region(rule):
    """The rule learns the same boxes if the entire image is a crowd."""
    priors, gt = PRIORS["anchors"], make_gt((5,), (0,))
    everything = truth(torch.tensor([[-500.0, -500, 700, 700]]), 0, True)
    predictions = make_predictions(priors, 1)
    before = call_rule(rule, priors, gt.objects, predictions)
    after = IgnoreRegions(rule)(priors, joined([everything, gt]), predictions)
    assert before.positive.any() and not (after.gt_index == BACKGROUND).any()
    assert torch.equal(before.positive, after.positive)
    here = before.positive
    assert torch.equal(before.gt_index[here], after.gt_index[here])


def outputs(priors, images):
    generator = torch.Generator().manual_seed(1)
    shapes = [(images, len(priors), CLASSES), (images, len(priors), 4), (images, len(priors))]
    leaves = [torch.randn(s, generator=generator).requires_grad_() for s in shapes]
    return HeadOutput(*leaves, MAPS)


@pytest.mark.parametrize("loss", ["", *CLASS_LOSSES])
@pytest.mark.parametrize("retinanet", [False, True])
def test_no_gradient_reaches_background_in_a_region(rule, retinanet, loss):
    priors, gt, output = PRIORS["anchors"], make_gt(), outputs(PRIORS["anchors"], 3)
    output = output._replace(quality=None) if retinanet else output
    kind = RetinaNetCriterion if retinanet else Criterion
    loss = ClassLoss(loss) if loss else None
    criterion = kind(IgnoreRegions(rule), DeltaCoder(), lambda totals: totals, class_loss=loss)
    sum(criterion(output, priors, gt).losses.values()).backward()
    boxes = DeltaCoder().decode(output.deltas, priors.boxes).detach()
    plain = rule(priors, gt.objects, Predictions(boxes, output.logits.detach()))
    background = plain.gt_index == BACKGROUND
    inside = covered_by_hand(priors, gt, 3) & background
    assert inside.any() and (output.logits.grad[inside] == 0).all()
    assert (output.deltas.grad[inside] == 0).all()
    assert retinanet or (output.quality.grad[inside] == 0).all()
    assert (output.logits.grad[background & ~inside] > 0).all()


def test_without_flags_all_is_as_without_the_wrapper(rule):
    """Compares bitwise, also if the flags exist and mark no region."""
    priors, output = PRIORS["anchors"], outputs(PRIORS["anchors"], 2)
    none = make_gt((5, 4), (0, 0))
    plain = replace(none, ignore=None)
    average = torch.Tensor.clone  # one process
    rules = {rule: [plain], IgnoreRegions(rule): [plain, none]}
    results = [
        Criterion(wrapped, DeltaCoder(), average)(output, priors, gt).losses
        for wrapped, truths in rules.items()
        for gt in truths
    ]
    assert all(result.keys() == results[0].keys() for result in results)
    for result in results[1:]:
        assert all(torch.equal(result[key], results[0][key]) for key in result)


@pytest.mark.parametrize("regions", [(0, 0), (2, 3)])
def test_images_of_regions_only(rule, regions):
    priors, gt = PRIORS["anchors"], make_gt((0, 0), regions)
    result = IgnoreRegions(rule)(priors, gt, make_predictions(priors, 2))
    covered = covered_by_hand(priors, gt, 2)
    assert torch.equal(result.gt_index, torch.where(covered, IGNORE, BACKGROUND))
    assert bool(covered.any()) == any(regions) and not result.quality.any()


HOSTILE = {
    "without extent": [40.0, 40, 40, 40],
    "infinite": [-torch.inf, -torch.inf, torch.inf, torch.inf],
    "not a number": [torch.nan] * 4,
    "outside of the image": [9000.0, 9000, 9100, 9100],
}


@pytest.mark.parametrize("box", HOSTILE)
@pytest.mark.parametrize("maps", [MAPS, ((1, 30),), ((1, 1), (1, 1))])
def test_hostile_regions(box, maps):
    priors = AnchorGenerator(STRIDES[: len(maps)], STRIDES[: len(maps)])(maps, CPU)
    gt = truth(torch.tensor([HOSTILE[box]]), 0, True)
    result = IgnoreRegions(ASSIGNERS["atss"]())(priors, gt, make_predictions(priors, 1))
    ignored = result.gt_index == IGNORE
    assert ignored.all() if box == "infinite" else not ignored.any()


def test_names_of_the_rule_are_the_wrappers(rule):
    wrapped = IgnoreRegions(rule)
    for name in ("soft_labels", "quality_name"):
        assert getattr(wrapped, name) == getattr(rule, name)
    assert not wrapped.needs_size  # it treats a point as a square of one stride
    assert wrapped.waits == getattr(rule, "waits", False)


def test_a_rule_that_learns_is_registered():
    class Learning(torch.nn.Module):
        soft_labels, quality_name, needs_size = False, "IoU", False

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

    assert [key for key, _ in IgnoreRegions(Learning()).named_parameters()] == ["scale"]


def test_copies_assign_the_same(rule):
    priors, gt, wrapped = PRIORS["anchors"], make_gt(), IgnoreRegions(rule)
    predictions = make_predictions(priors, 3)
    expected = wrapped(priors, gt, predictions)
    for copy in (deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        assert torch.equal(copy(priors, gt, predictions).gt_index, expected.gt_index)


def test_never_waits_for_the_device(rule):
    """The meta device has no values, so a wait raises."""
    if getattr(rule, "waits", False):
        pytest.skip("the rule says that it waits for the device")
    priors = PRIORS["nine"]
    later = replace(make_predictions(priors, 3), iteration=1)  # only iteration 0 reads values
    inputs = [to_device(x, "meta") for x in (priors, make_gt(), later)]
    result = IgnoreRegions(rule)(*inputs)
    assert result.gt_index.device.type == "meta" and result.gt_index.shape == (3, len(priors))


class Watch(TorchDispatchMode):
    """Counts the operators, and records the largest number of elements of a result."""

    calls, largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def watched(gt, priors, images):
    predictions = make_predictions(priors, images)
    rule = IgnoreRegions(ASSIGNERS["atss"]())
    rule(priors, gt, predictions)  # creates the cached constants
    with Watch() as watch:
        rule(priors, gt, predictions)
    return watch


def test_neither_a_loop_nor_a_table_of_priors_by_regions():
    priors = PRIORS["anchors"]
    few = watched(make_gt((1,), (1,)), priors, 1)
    small = [truth(random_boxes(300, n, largest=2), n, True) for n in range(6)]
    many = watched(joined([*small, make_gt((9,) * 6, (0,) * 6)]), priors, 6)
    assert many.calls <= few.calls + 5  # a kernel may split differently by size
    # Each of 1,800 regions of at most 16 pixels holds 3 x 3 locations of stride 8 and a few others.
    assert many.largest < 1800 * 50 < 1800 * len(priors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu_without_a_wait(rule):
    if getattr(rule, "waits", False):
        pytest.skip("the rule says that it waits for the device")
    inputs = (PRIORS["anchors"], make_gt(), make_predictions(PRIORS["anchors"], 3))
    there = [to_device(x, "cuda") for x in inputs]
    IgnoreRegions(rule)(*there)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = IgnoreRegions(rule)(*there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.gt_index.cpu(), IgnoreRegions(rule)(*inputs).gt_index)
