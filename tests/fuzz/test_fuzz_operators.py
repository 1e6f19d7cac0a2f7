"""The operators: kernels beside their plain forms on any numbers, and arguments of any kind."""

import math

import pytest
import torch
from helpers_fuzz import layouts, tensors
from hypothesis import given
from hypothesis import strategies as st

from dynamic_atss.assigners.reference import PLAIN
from dynamic_atss.boxes import BoxConvention
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.ops import focal, nms
from dynamic_atss.ops.library import load
from dynamic_atss.ops.vote import box_vote

pytestmark = [
    pytest.mark.skipif(load()["cpu"] != "native", reason=f"CPU kernels: {load()['cpu']}"),
    pytest.mark.slow,
]
OPS = torch.ops.dynamic_atss
MAPS, STRIDES = ((5, 7), (3, 4), (1, 1)), (8, 16, 32)
LEVELS = [n for (h, w), s in zip(MAPS, STRIDES, strict=True) for n in (h, w, s)]
PRIORS = AnchorGenerator(STRIDES, (64, 128, 256))(MAPS, torch.device("cpu"))
DTYPES = st.sampled_from([torch.float32, torch.float64])
ROUNDED = {"pair_centerness": 4}  # units in the last place: PyTorch's square root is a library's


def forms(name, *arguments):
    """Kernel and plain form agree on the arguments, and leave them as they were."""
    before = [x.clone() if isinstance(x, torch.Tensor) else x for x in arguments]
    found, wanted = getattr(OPS, name).default(*arguments), PLAIN[name](*arguments)
    found, wanted = ((x,) if isinstance(x, torch.Tensor) else x for x in (found, wanted))
    for a, b in zip([*found, *arguments], [*wanted, *before], strict=True):
        if isinstance(a, torch.Tensor):
            close = ROUNDED.get(name, 0) * torch.finfo(torch.float32).eps
            torch.testing.assert_close(a, b, rtol=close, atol=0, equal_nan=True)
    return found


@st.composite
def boxes(draw, dtype=torch.float32, most=12):
    """(T, 4) of any numbers, and the images (T,) of three, ascending."""
    count = draw(st.integers(0, most))
    image = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    return draw(tensors((count, 4), dtype)), torch.tensor(image, dtype=torch.int64)


@given(data=st.data(), dtype=DTYPES, k=st.integers(1, 40), square=st.booleans())
def test_locations(data, dtype, k, square):
    points = data.draw(tensors((data.draw(st.integers(0, 9)), 2), dtype))
    offset = data.draw(st.sampled_from([0.0, 0.5]))
    location, exists = forms("locations_around", points, LEVELS, offset, k, square)
    inside = (location >= 0) & (location < len(PRIORS))
    assert (inside | ~exists).all()
    (near,) = forms("nearest_locations", points.float(), LEVELS, offset, k)
    assert ((near >= 0) & (near < len(PRIORS))).all()


@given(data=st.data(), dtype=DTYPES, radius=st.sampled_from([0.0, 1.5]), ranges=st.booleans())
def test_points_inside(data, dtype, radius, ranges):
    some, image = data.draw(boxes(dtype))
    reach = [20.0, 44.0, math.inf] if ranges else []
    extent = (some[:, 2:] - some[:, :2]).double()
    length = int(OPS.most_locations(extent, LEVELS, radius, reach, []))
    centers = PRIORS.centers.to(dtype)
    assert 0 <= length <= max(1, len(some)) * len(PRIORS) + 1
    arguments = some, image, centers, LEVELS, 0.5, radius, reach, 0.01, length
    if extent.isnan().any():  # no bound is one: either form may leave out another location
        assert [len(x) for x in OPS.points_inside(*arguments)] == [length] * 4
        assert [len(x) for x in PLAIN["points_inside"](*arguments)] == [length] * 4
        return
    forms("points_inside", *arguments)


@given(
    data=st.data(), dtype=DTYPES, thresholds=st.sampled_from([(0.5, 0.4), (0.1, 0.1), (0.9, 0.0)])
)
def test_overlaps(data, dtype, thresholds):
    some, image = data.draw(boxes(dtype))
    extent, margin = (some[:, 2:] - some[:, :2]).double(), [s + 2.0 for s in PRIORS.largest]
    anchors = PRIORS.boxes.to(dtype)
    found = forms(
        "max_iou_labels", anchors, some, image, extent, LEVELS, 0.5, margin, 3, *thresholds
    )
    assert found[0].shape == (3, len(PRIORS))
    assert (found[0] >= -2).all() and (found[0] < max(len(some), 1)).all()


@given(data=st.data(), dtype=DTYPES, side=st.sampled_from([0.0, 1.0]))
def test_pairs(data, dtype, side):
    some, _ = data.draw(boxes(dtype))
    index = data.draw(layouts(torch.randint(9, (len(some), 5), generator=seeded(len(some)))))
    values = data.draw(tensors((9, 4), dtype))
    box = torch.arange(len(some))[:, None]
    forms("pair_iou", values, index, some, box, side)
    forms("pair_sides", values[:, :2], index, some, box)
    forms("pair_centerness", values[:, 2:], index, some, box)


@given(data=st.data(), dtype=DTYPES, k=st.integers(1, 20), seed=st.integers(0, 99))
def test_selection(data, dtype, k, seed):
    count, width = data.draw(st.integers(0, 6)), 7
    score = data.draw(tensors((count, width), dtype))
    exists, selected = (torch.rand(count, width, generator=seeded(seed)) < p for p in (0.7, 0.9))
    prior = torch.rand(count, 10, generator=seeded(seed)).argsort(1)[:, :width]
    box, quality = torch.arange(count)[:, None], torch.rand(count, width)
    forms("best_of_box", box, prior, prior + 5, exists, score, k, count)
    index, _ = forms("resolve", box, prior, exists, selected, score, quality, 2, 10)
    assert ((index >= -1) & (index < max(count, 1))).all()


@given(data=st.data())
def test_mixture(data):
    """Of two forms, whose sums are rounded otherwise, test_mixture.py says how near they are."""
    count = data.draw(st.integers(0, 6))
    values = data.draw(tensors((count, 5), torch.float64)).sort(1).values
    lengths = torch.randint(0, 6, (count,), generator=seeded(count))
    for form in (OPS.low_component, PLAIN["low_component"]):
        found = form(values, lengths)
        assert ((found >= lengths.clamp(max=1)) & (found <= lengths)).all()
        odd = ~values.isfinite().all(1) & (lengths == 5)
        assert torch.equal(found[odd], lengths[odd])


@given(data=st.data(), dtype=DTYPES, limit=st.sampled_from([None, 1, 5]))
def test_nms(data, dtype, limit):
    size = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 9)))
    some, scores = data.draw(tensors((*size, 4), dtype)), data.draw(tensors(size, dtype))
    classes = torch.randint(-1, 2, size, generator=seeded(size[1]))
    threshold = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0, 2.0]))
    for convention in BoxConvention:
        found = nms.batched_multiclass_nms(some, scores, classes, threshold, convention, limit)
        wanted = nms._reference(some, scores, classes, threshold, convention.value, limit)
        assert [x.tolist() for x in found] == [x.tolist() for x in wanted]


@given(data=st.data(), threshold=st.sampled_from([1e-9, 0.5, 1.0, 2.0]))
def test_vote(data, threshold):
    """Of finite boxes and scores above 0, as asked for."""
    count = data.draw(st.integers(0, 9))
    some = data.draw(tensors((count, 4), torch.float32)).nan_to_num(0.0, 9e3, -9e3).clamp(-1e4, 1e4)
    scores = torch.rand(count, generator=seeded(count)).clamp(min=1e-3)
    classes = torch.randint(2, (count,), generator=seeded(count))
    soft = data.draw(st.sampled_from([None, 0.0, 0.05]))
    voted, best, kinds = box_vote(some, scores, classes, threshold, soft_threshold=soft)
    assert len(voted) == len(best) == len(kinds) and voted.isfinite().all()
    assert (best.diff() <= 0).all() and (len(voted) <= count or soft is not None)


@given(data=st.data(), kind=st.integers(0, 2), gamma=st.sampled_from([0.0, 1.3, 2.0]))
def test_focal_losses(data, kind, gamma):
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
    shape = data.draw(st.tuples(st.integers(0, 9), st.sampled_from([1, 3, 17])))
    # The kernel takes a class's term out of the sum of its row: a huge one leaves its rounding.
    logits = data.draw(tensors(shape, dtype)).clamp(-100, 100)
    precise = torch.promote_types(dtype, torch.float32)
    classes = torch.randint(-2, shape[1], shape[:1], generator=seeded(shape[0]))
    quality = torch.rand(shape[:1], generator=seeded(1), dtype=precise)
    arguments = logits, classes, quality, torch.tensor(2.5, dtype=precise), kind, 0.3, gamma
    found, wanted = OPS.focal_loss(*arguments), focal._loss_and_gradient(*arguments)
    for a, b in zip(found, wanted, strict=True):
        step = max(torch.finfo(a.dtype).eps, 1e-6)
        torch.testing.assert_close(a, b, rtol=20 * step, atol=2 * step, equal_nan=True)


def seeded(number):
    return torch.Generator().manual_seed(number)


def whole_arguments(name):
    """Small ones that the operator accepts."""
    some, image = torch.tensor([[0.0, 0, 20, 20], [5, 5, 30, 9]]), torch.tensor([0, 1])
    index, box, flags = torch.zeros(2, 3).long(), torch.arange(2)[:, None], torch.ones(2, 3) > 0
    extent, lattice = (some[:, 2:] - some[:, :2]).double(), (LEVELS, 0.5)
    return {
        "nearest_locations": (some[:, :2], *lattice, 3),
        "locations_around": (some[:, :2], *lattice, 3, True),
        "points_inside": (some, image, PRIORS.centers, *lattice, 0.0, [], 0.01, 30),
        "max_iou_labels": (PRIORS.boxes, some, image, extent, *lattice, [66.0] * 3, 2, 0.5, 0.4),
        "pair_iou": (PRIORS.boxes, index, some, box, 1.0),
        "pair_sides": (PRIORS.centers, index, some, box),
        "pair_centerness": (PRIORS.centers, index, some, box),
        "best_of_box": (box, index, index, flags, index.float(), 2, 2),
        "resolve": (box, index, flags, flags, index.float(), index.float(), 2, 9),
        "low_component": (torch.rand(2, 3).double().sort(1).values, torch.tensor([3, 1])),
        "batched_multiclass_nms": (some[None], torch.ones(1, 2), image[None], 0.5, 1.0, None),
        "focal_loss": (some, image, torch.ones(2), torch.tensor(1.0), 1, 0.25, 2.0),
        "focal_rows": (some, torch.tensor([1, 0, 0]), torch.tensor([0, -1, -2]), 0.25, 2.0),
        "most_locations": (extent, LEVELS, 0.0, [], []),
    }[name]


# None in place of a tensor goes to the plain form, which wants an attribute of it.
EXPECTED = (RuntimeError, ValueError, TypeError, IndexError, OverflowError, AttributeError)
ODD = (
    *(torch.zeros(0), torch.tensor(3), torch.zeros(2, 3).half(), torch.full((2, 3), 10**6)),
    *(torch.full((2, 1), -(2**62)), torch.arange(2).flip(0)[:, None], torch.zeros(2, 0, 4)),
    *(torch.zeros(2, 4) + 1j, torch.ones(2, 3, dtype=torch.int32), torch.zeros(2, 4).to_sparse()),
    *(torch.zeros(2, 4, device="meta"), torch.ones(2, dtype=torch.int64), None, True, "x"),
    *(0, -1, 2**62, -(2**62), 2**40, math.nan, math.inf, [], [1], [0, 0, 0], [-1, -1, -1]),
    *([2**31, 2**31, 1], [4, 4, 0], [math.nan] * 3, [5, 7, 8, 3, 4]),
)


@pytest.mark.parametrize("name", [*PLAIN, *("batched_multiclass_nms", "focal_loss", "focal_rows")])
@given(place=st.integers(0, 9), value=st.sampled_from(ODD), both=st.booleans(), data=st.data())
def test_arguments_of_any_kind(name, place, value, both, data):
    """A result or an exception: never a crash, and no memory for a size that nobody has."""
    arguments = list(whole_arguments(name))
    arguments[place % len(arguments)] = value
    if both:
        arguments[data.draw(st.integers(0, len(arguments) - 1))] = data.draw(st.sampled_from(ODD))
    try:
        getattr(OPS, name).default(*arguments)
    except EXPECTED:
        return


@pytest.mark.parametrize("name", [*PLAIN, *("batched_multiclass_nms", "focal_loss", "focal_rows")])
def test_these_arguments_are_accepted(name):
    getattr(OPS, name).default(*whole_arguments(name))
