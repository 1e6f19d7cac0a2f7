"""Compares the kernels of label assignment with the plain PyTorch that defines them."""

import math

import pytest
import torch
from helpers_rounding import assert_rounded

from dynamic_atss.assigners import ASSIGNERS, nearest, pairs
from dynamic_atss.assigners.reference import PLAIN
from dynamic_atss.assigners.reference.inside import VECTOR, full_vectors
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.ops.library import load
from dynamic_atss.types import GroundTruth, Predictions

native = pytest.mark.skipif(load()["cpu"] != "native", reason=f"CPU kernels: {load()['cpu']}")
MAPS = ((12, 16), (6, 8), (3, 4), (2, 1))
LEVELS = [n for (h, w), s in zip(MAPS, (8, 16, 32, 64), strict=True) for n in (h, w, s)]
OPERATORS = {
    name: (getattr(torch.ops.dynamic_atss, name).default, plain)
    for name, plain in PLAIN.items()
    if name != "low_component"  # see test_mixture.py
}
MOST = torch.ops.dynamic_atss.most_locations.default
ROUNDED = {"pair_centerness"}  # PyTorch's square root may round to a neighbouring number
HOST = {"max_iou_labels": (3,)}  # arguments that stay on the CPU
KINDS = ("random", "empty", "one", "ties", "not finite", "huge", "strided")


def make_priors(ratios=(1.0,)):
    make = AnchorGenerator((8, 16, 32, 64), (64, 128, 256, 512), ratios)
    return make(MAPS, torch.device("cpu"))


def make_boxes(kind, generator, dtype=torch.float32):
    """Makes boxes (T, 4) in quarters of a pixel, some on the lattice, and images (T,) of three."""
    count = {"empty": 0, "one": 1}.get(kind, 40)
    center = torch.rand(count, 2, generator=generator) * torch.tensor([150.0, 110.0]) - 10
    half = 2 * 40 ** torch.rand(count, 2, generator=generator)
    boxes = (torch.cat((center - half, center + half), 1) * 4).round() / 4
    if kind == "ties":
        boxes[:] = torch.tensor([16.0, 16, 80, 80])
    if kind == "not finite":
        boxes[0, 2], boxes[1, 1], boxes[2, :2], boxes[2, 2:] = (
            math.inf,
            -math.inf,
            -math.inf,
            math.inf,
        )
    if kind == "huge":
        boxes[::2] *= 1e6
        boxes[1::4] *= 1e25
    image = (torch.arange(count) * 3 // max(count, 1)).long()
    return strided(boxes.to(dtype)) if kind == "strided" else boxes.to(dtype), image


def strided(x):
    """Gives the same values with other strides."""
    return torch.stack((x, x - 1), dim=-1)[..., 0] if x.dtype != torch.bool else x.t().clone().t()


def make_points(kind, generator, dtype):
    boxes, _ = make_boxes(kind, generator, dtype)
    points = (boxes[:, :2] + boxes[:, 2:]) / 2
    if kind == "not finite":
        points[0], points[1, 0], points[2, 1], points[3, 0] = (
            math.nan,
            math.nan,
            math.inf,
            -math.inf,
        )
    return strided(points) if kind == "strided" else points


def make_pairs(kind, generator, of, listed):
    """Makes box and index, (T, 1) and (T, K) or both (M,), of T boxes and `of` priors."""
    count = {"empty": 0, "one": 1}.get(kind, 40)
    index = torch.randint(of, (count, 7), generator=generator)
    box = torch.arange(count)[:, None]
    if listed:
        box, index = box.repeat_interleave(7, 1).flatten(), index.flatten()
    return (strided(box), strided(index)) if kind == "strided" else (box, index)


def make_scores(kind, generator, shape, dtype):
    scores = torch.rand(shape, generator=generator, dtype=dtype)
    if kind == "ties":
        scores = scores.round()
    if kind in ("not finite", "huge"):
        special = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)
        pick = torch.randint(12, shape, generator=generator)
        scores = torch.where(pick < 3, special[pick.clamp(max=2)], scores)
    return strided(scores) if kind == "strided" else scores


def locations_arguments(name, kind, generator, dtype, variant):
    dtype = torch.float32 if name == "nearest_locations" else dtype
    points, k = make_points(kind, generator, dtype), (1, 9, 30)[variant]
    rest = (LEVELS, 0.5 * (variant % 2), k)
    return (points, *rest) if name == "nearest_locations" else (points, *rest, variant == 1)


def inside_arguments(kind, generator, dtype, variant):
    priors = make_priors((0.5, 1.0, 2.0) if variant == 2 else (1.0,))
    boxes, image = make_boxes(kind, generator, dtype)
    reach = [] if variant == 0 else [20.0, 44.0, 90.0, math.inf]
    radius, margin = (0.0, 1.5, 2.5)[variant], (0.01, 0.0, 3.1)[variant]
    gt = GroundTruth(boxes, image, image)
    length = int(MOST(gt.extent, LEVELS, radius, reach, []))
    centers = priors.centers.to(dtype)
    return boxes, image, centers, LEVELS, 0.5, radius, reach, margin, length


def overlaps_arguments(kind, generator, dtype, variant):
    priors = make_priors((0.5, 1.0, 2.0) if variant else (1.0,))
    boxes, image = make_boxes(kind, generator, dtype)
    margin = [side + 2.0 for side in priors.largest]
    extent = GroundTruth(boxes, image, image).extent
    thresholds = ((0.5, 0.4), (0.1, 0.1), (0.9, 0.0))[variant]
    return priors.boxes.to(dtype), boxes, image, extent, LEVELS, 0.5, margin, 3, *thresholds


def pair_arguments(name, kind, generator, dtype, variant):
    priors = make_priors()
    boxes, _ = make_boxes(kind, generator, dtype)
    box, index = make_pairs(kind, generator, len(priors), listed=variant > 0)
    if kind == "not finite":
        boxes[0], boxes[1, 0], boxes[2, 2] = math.nan, math.nan, math.inf
    if name == "pair_iou":
        values = priors.boxes.to(dtype)
        if kind == "not finite":
            values[::3, 1], values[1::3] = math.nan, math.inf
        return strided(values), index, boxes, box, float(variant % 2)
    if name == "pair_centerness" and variant and len(box):
        box[::5] = -1
    return strided(priors.centers.to(dtype)), index, boxes, box


def selection_arguments(name, kind, generator, dtype, variant):
    priors = 10  # many pairs of each box
    box, index = make_pairs(kind, generator, priors, listed=variant > 0)
    exists = torch.rand(index.shape, generator=generator) < 0.7
    score = make_scores(kind, generator, index.shape, dtype)
    if name == "best_of_box":
        flat = torch.randint(10**6, index.shape, generator=generator)
        return box, index, flat, exists, score, (1, 4, 9)[variant], 41
    # Makes no pair twice, because either one could win.
    order = torch.rand(max(len(box), 1), 3 * priors, generator=generator).argsort(1)
    rows = torch.arange(len(index))[:, None] if index.ndim == 2 else torch.arange(len(index)) // 7
    columns = torch.arange(7) if index.ndim == 2 else torch.arange(len(index)) % 7
    flat = order[rows, columns] if index.numel() else index
    selected = torch.rand(index.shape, generator=generator) < 0.9
    quality = torch.rand(index.shape, generator=generator)
    return box, flat, exists, selected, score, quality, 3, priors


def arguments_of(name, kind, dtype=torch.float32, variant=0):
    generator = seeded(variant)
    if name in ("nearest_locations", "locations_around"):
        return locations_arguments(name, kind, generator, dtype, variant)
    if name == "points_inside":
        return inside_arguments(kind, generator, dtype, variant)
    if name == "max_iou_labels":
        return overlaps_arguments(kind, generator, dtype, variant)
    if name in ("best_of_box", "resolve"):
        return selection_arguments(name, kind, generator, dtype, variant)
    return pair_arguments(name, kind, generator, dtype, variant)


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


@native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPERATORS)
def test_kernel_equals_the_plain_form(name, kind, dtype):
    for variant in range(3):
        found, expected = both_forms(name, arguments_of(name, kind, dtype, variant))
        for a, b in zip(found, expected, strict=True):
            assert_rounded(a, b) if name in ROUNDED else assert_same(a, b)


@native
def test_a_box_without_end_on_a_level_whose_reach_has_none():
    """Infinity minus infinity means no limit. tests/fuzz found this case."""
    boxes = torch.tensor([[-math.inf, 0, 60, 80], [0, 3, math.inf, 90]])
    arguments = list(arguments_of("points_inside", "empty", variant=1))
    arguments[:2], arguments[5], arguments[-1] = (boxes, torch.tensor([0, 1])), 0.0, 40
    found, expected = both_forms("points_inside", arguments)
    assert found[3].any()
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def both_forms(name, arguments):
    """Gives the results of kernel and plain form, and checks that neither changes its arguments."""
    before = tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in arguments)
    found, expected = (as_tuple(form(*arguments)) for form in OPERATORS[name])
    assert_same(arguments, before)
    assert all(x.is_contiguous() for x in found)
    return found, expected


def seeded(number):
    return torch.Generator().manual_seed(number)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["random", "empty"])
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name, kind):
    torch.library.opcheck(OPERATORS[name][0], arguments_of(name, kind))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_plain_form_never_waits_for_the_device(name):
    """The meta device has no values, so reading one raises."""
    for variant in range(3):
        arguments = arguments_of(name, "random", variant=variant)
        shapes = [x.shape for x in as_tuple(OPERATORS[name][1](*arguments))]
        there = [
            x.to("meta") if isinstance(x, torch.Tensor) and i not in HOST.get(name, ()) else x
            for i, x in enumerate(arguments)
        ]
        assert [x.shape for x in as_tuple(OPERATORS[name][1](*there))] == shapes


def most_arguments(variant):
    generator = torch.Generator().manual_seed(variant)
    extent = 200 * torch.rand(50, 2, generator=generator, dtype=torch.float64)
    extent[:4, 0] = torch.tensor([0, -3, math.inf, 1e30], dtype=torch.float64)
    extent[4:40] = extent[4:40].round()  # full strides
    reach = [20.0, 44.0, 90.0, math.inf] if variant % 2 else []
    margin = [66.0, 130.0, 258.0, 514.0] if variant == 2 else []
    return extent, LEVELS, (0.0, 1.5, 0.0, 2.5)[variant], reach, margin


def most_lines(side, level, count, radius, reach, margin):
    """Counts the most lines of an axis in a region around a box with this side."""
    if reach:
        side = 2 * reach[level] - side if side > reach[level] else side
    strides = (side + (margin[level] if margin else 0)) / (8, 16, 32, 64)[level]
    strides = min(strides, 2 * radius) if radius else strides
    return math.floor(min(max(strides, -1), count - 1) + 3e-3) + 1


def test_the_bound_on_locations_is_that_of_all_boxes_and_levels():
    for variant in range(4):
        extent, levels, radius, reach, margin = most_arguments(variant)
        expected = sum(
            most_lines(width, level, columns, radius, reach, margin)
            * most_lines(height, level, rows, radius, reach, margin)
            for width, height in extent.tolist()
            for level, (rows, columns) in enumerate(MAPS)
        )
        assert MOST(extent, levels, radius, reach, margin) == full_vectors(expected) > 0


def test_the_bound_on_locations_without_boxes_or_with_no_numbers():
    extent, *rest = most_arguments(2)
    assert MOST(extent[:0], *rest) == 0
    assert MOST(torch.full_like(extent, math.nan), *rest) == VECTOR
    torch.library.opcheck(MOST, (extent, *rest))


@native
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["random", "ties", "not finite"])
@pytest.mark.parametrize("k", [1, 9, 16, 17, 40])
def test_the_best_of_many_pairs_of_a_box(k, kind, dtype):
    """Uses enough pairs for the sieve, in rows and in a list with very unequal boxes."""
    generator = torch.Generator().manual_seed(k)
    for shape in ((20, 200), (3000,)):
        score = make_scores(kind, generator, shape, dtype)
        if kind == "ties":
            score = (4 * torch.rand(shape, generator=generator, dtype=dtype)).round()
        index = torch.randint(10**6, shape, generator=generator)
        exists = torch.rand(shape, generator=generator) < 0.9
        rows = torch.arange(20)[:, None]
        by_box = (20 * torch.rand(shape, generator=generator) ** 3).long().flatten().sort().values
        box = rows if len(shape) == 2 else by_box
        arguments = box, index, index + 7, exists, score, k, 20
        for found, wanted in zip(
            *(form(*arguments) for form in OPERATORS["best_of_box"]), strict=True
        ):
            assert torch.equal(found, wanted)


WRONG = {
    "nearest_locations": [
        (0, torch.zeros(3, 4), "points has shape"),
        (0, torch.zeros(3, 2, dtype=torch.float64), "dtype"),
        (1, [3, 4], "threes of height, width and stride"),
        (3, 0, "k is not between"),
    ],
    "locations_around": [(0, torch.zeros(3, 2, dtype=torch.int64), "float32 or float64")],
    "points_inside": [
        (1, torch.zeros(3, dtype=torch.int64), "image_index has shape"),
        (2, torch.zeros(5, 2), "locations"),
        (6, [1.0], "reach"),
    ],
    "pair_iou": [
        (0, torch.zeros(3, 2), "boxes has shape"),
        (1, torch.full((40, 7), 10**6), "index"),
        (1, torch.zeros(40, 7), "index has another dtype"),
        (3, torch.arange(40), "box"),
        (2, torch.zeros(40, 4, dtype=torch.float64), "dtype"),
    ],
    "pair_sides": [(1, torch.full((40, 7), -1), "index")],
    "pair_centerness": [(3, torch.full((40, 1), 40), "box")],
    "best_of_box": [
        (1, torch.ones(3, dtype=torch.int64), "prior has shape"),
        (3, torch.ones(3, dtype=torch.bool), "exists has shape"),
        (0, torch.arange(40).flip(0)[:, None], "by box"),
        (6, 3, "a box is out of range"),
        (5, 0, "k must be at least 1"),
    ],
    "resolve": [
        (1, torch.full((40, 7), 30), "flat"),
        (1, torch.zeros(40, 7, dtype=torch.int32), "flat has another dtype"),
        (3, torch.ones(40, 7), "selected has another dtype"),
        (4, torch.zeros(40, 6), "score has shape"),
        (6, -1, "negative"),
    ],
    "max_iou_labels": [
        (2, torch.full((40,), 3), "a box.s image is not"),
        (0, torch.zeros(7, 4), "priors"),
        (3, torch.zeros(40), "extent has shape"),
        (6, [1.0], "margin"),
    ],
}


@native
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_an_error_that_names_it(name):
    for place, value, message in WRONG[name]:
        arguments = list(arguments_of(name, "random"))
        arguments[place] = value
        with pytest.raises(RuntimeError, match=message):
            OPERATORS[name][0](*arguments)


def many_boxes(count=3000, images=2):
    """Makes enough boxes for several threads in every kernel."""
    generator = torch.Generator().manual_seed(3)
    priors = make_priors()
    center = torch.rand(count, 2, generator=generator) * torch.tensor([128.0, 96.0])
    half = 8 * 8 ** torch.rand(count, 2, generator=generator)
    image = torch.arange(count) * images // count
    gt = GroundTruth(torch.cat((center - half, center + half), 1), image % 3, image)
    boxes = priors.boxes + torch.randn(images, len(priors), 4, generator=generator)
    return priors, gt, Predictions(boxes, torch.randn(images, len(priors), 3, generator=generator))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [x for x in ASSIGNERS if x != "paa"])
def test_threads_do_not_change_a_label(rule):
    """The quality may differ in the last bits, because those of PyTorch's functions depend on how
    threads divide a tensor."""
    scene, before = many_boxes(), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ASSIGNERS[rule]()(*scene))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0].gt_index, other.gt_index)
        assert_rounded(other.quality, results[0].quality)


@pytest.mark.slow
def test_compiles_without_a_graph_break():
    priors, gt, _ = many_boxes(20)

    def iou_of_nearest(boxes, points):
        index = nearest.nearest_locations(points, priors.levels, priors.offset, 9)
        box = torch.arange(len(gt))[:, None]
        found = pairs.Pairs(box, index, index, torch.ones_like(index, dtype=torch.bool))
        score = OPERATORS["pair_iou"][0](boxes, index, gt.boxes, box, 1.0)
        result = pairs.resolve(found, score > 0, score, score, (1, len(priors)))
        return result.gt_index, result.quality

    points = (gt.boxes[:, :2] + gt.boxes[:, 2:]) / 2
    compiled = torch.compile(iou_of_nearest, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        compiled(priors.boxes, points), iou_of_nearest(priors.boxes, points), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "rule", [x for x in ASSIGNERS if not getattr(ASSIGNERS[x], "waits", False)]
)
def test_a_rule_compiles_without_a_graph_break(rule):
    """Priors and boxes have cached extents and centres, as after the first iteration."""
    scene, assigner = many_boxes(20), ASSIGNERS[rule]()
    expected = assigner(*scene)
    torch.compiler.reset()  # earlier compilations count towards its limit
    found = torch.compile(assigner.__call__, fullgraph=True, backend="aot_eager")(*scene)
    assert torch.equal(found.gt_index, expected.gt_index)
    assert_rounded(found.quality, expected.quality)


@native
def test_a_level_without_locations_and_one_that_is_too_large():
    points = torch.rand(5, 2) * 40
    search = torch.ops.dynamic_atss.nearest_locations
    with_empty, without = (
        search(points, [0, 5, 8, 4, 4, 16], 0.5, 3),
        search(points, [4, 4, 16], 0.5, 3),
    )
    assert torch.equal(with_empty, without)
    for levels, k in (([2**25, 1, 1], 9), ([4, 4, 8], 2**31), ([2**20, 2**20, 1], 9)):
        for operator in (search, torch.ops.dynamic_atss.locations_around):
            rest = () if operator is search else (True,)
            with pytest.raises(RuntimeError, match=r"too large|not between"):
                operator(points, levels, 0.5, k, *rest)
