"""Compares the integer ranges of columns and rows with a test of every location."""

import math
import random

import pytest
import torch

from dynamic_atss.assigners.pairs import Pairs
from dynamic_atss.assigners.ranges import points_inside
from dynamic_atss.assigners.reference.inside import (
    VECTOR,
    full_vectors,
    list_locations,
    most_locations,
)
from dynamic_atss.assigners.reference.levels import level_numbers
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import GroundTruth, to_device

CPU = torch.device("cpu")
STRIDES = (8, 16, 32)
MAPS = [
    ((12, 16), (6, 8), (3, 4)),
    ((1, 30), (1, 15), (1, 8)),
    ((30, 1), (15, 1), (8, 1)),
    ((1, 1), (1, 1), (1, 1)),
]
GENERATORS = {
    "anchors": AnchorGenerator(STRIDES, [8.0 * s for s in STRIDES]),
    "six anchors": AnchorGenerator(  # their centres are exact in float32
        STRIDES, [4.0 * s for s in STRIDES], (0.5, 1.0, 2.0), octave=4.0, scales_per_octave=2
    ),
    "points": PointGenerator(STRIDES),
    "points without offset": PointGenerator(STRIDES, offset=0.0),
}


def truth(boxes, image=None) -> GroundTruth:
    boxes = torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4)
    image = torch.zeros(len(boxes), dtype=torch.int64) if image is None else torch.tensor(image)
    return GroundTruth(boxes, torch.zeros_like(image), image)


def random_boxes(rng, count, width, height):
    """Makes boxes in quarters of a pixel, whose differences are exact. Many end on a line."""
    boxes = []
    for _ in range(count):
        x, y = rng.uniform(-60, width + 60), rng.uniform(-60, height + 60)
        w, h = (2 ** rng.uniform(-1, 8) for _ in range(2))
        step = rng.choice((0.25, 0.25, 4, 8, 16))
        boxes.append([round(v / step) * step for v in (x, y, x + w, y + h)])
    return boxes


def scenes(generator, maps, count=6):
    """Makes random boxes in three images. The second one has none."""
    rng = random.Random(str(maps))
    priors = GENERATORS[generator](maps, CPU)
    for _ in range(count):
        boxes = random_boxes(rng, 8, maps[0][1] * 8, maps[0][0] * 8)
        yield priors, truth(boxes, [0] * 5 + [2] * 3)


def locations(priors):
    """Gives index, level and place of each prior in plain numbers."""
    p = 0
    for i, level in enumerate(priors.levels):
        for row in range(level.height):
            for column in range(level.width):
                place = [(v + priors.offset) * level.stride for v in (column, row)]
                for _ in range(priors.per_location):
                    yield p, i, place
                    p += 1


def distances(place, box):
    return place[0] - box[0], place[1] - box[1], box[2] - place[0], box[3] - place[1]


def listed(pairs, gt, priors):
    """Gives the (box, prior) of the list. Checks that they are sorted and unique, and that pairs
    that do not exist come last with valid indices."""
    assert pairs.box.shape == pairs.prior.shape == pairs.flat.shape == pairs.exists.shape
    assert ((pairs.box >= 0) & (pairs.box < len(gt))).all()
    assert ((pairs.prior >= 0) & (pairs.prior < len(priors))).all()
    assert torch.equal(pairs.flat, gt.image_index[pairs.box] * len(priors) + pairs.prior)
    box, prior = pairs.box[pairs.exists].tolist(), pairs.prior[pairs.exists].tolist()
    found = list(zip(box, prior, strict=True))
    assert found == sorted(set(found))
    return found


def within(priors, gt, region, margin=()):
    """Gives the pairs of every box with the priors in its region (T, L or 1, 4)."""
    levels = level_numbers(priors.levels)
    length = most_locations(gt.extent, levels, 0.0, [], margin)
    lattice = (levels, priors.offset, priors.per_location)
    return Pairs(*list_locations(gt.boxes, gt.image_index, region, *lattice, length))


@pytest.mark.parametrize("maps", MAPS, ids=str)
@pytest.mark.parametrize("generator", GENERATORS)
def test_within_loses_no_pair(generator, maps):
    """Regions that end on a lattice line contain that line."""
    for priors, gt in scenes(generator, maps):
        pairs = within(priors, gt, gt.boxes[:, None])
        expected = [
            (t, p)
            for t, box in enumerate(gt.boxes.tolist())
            for p, _, place in locations(priors)
            if min(distances(place, box)) >= 0
        ]
        assert listed(pairs, gt, priors) == expected
        count = int(pairs.exists.sum())
        assert pairs.exists[:count].all()


@pytest.mark.parametrize("maps", MAPS, ids=str)
def test_within_a_region_of_each_level_wider_than_the_box(maps):
    margin = (6.0, 20.0, 0.5)
    for priors, gt in scenes("six anchors", maps):
        half = torch.tensor(margin)[:, None] / 2
        low, high = gt.boxes[:, None, :2] - half, gt.boxes[:, None, 2:] + half
        pairs = within(priors, gt, torch.cat((low, high), -1), margin=margin)
        expected = [
            (t, p)
            for t, box in enumerate(gt.boxes.tolist())
            for p, level, place in locations(priors)
            if min(distances(place, box)) >= -margin[level] / 2
        ]
        assert listed(pairs, gt, priors) == expected


@pytest.mark.parametrize("radius, margin", [(0.0, 0.0), (0.0, 0.01), (0.0, 3.1), (1.5, 0.0)])
@pytest.mark.parametrize("maps", MAPS, ids=str)
@pytest.mark.parametrize("generator", GENERATORS)
def test_inside_strictly(generator, maps, radius, margin):
    for priors, gt in scenes(generator, maps, 3):
        pairs = points_inside(priors, gt, radius=radius, margin=margin)
        expected = []
        for t, box in enumerate(gt.boxes.tolist()):
            middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
            for p, level, place in locations(priors):
                away = max(abs(place[0] - middle[0]), abs(place[1] - middle[1]))
                if radius and away >= radius * STRIDES[level]:
                    continue
                if min(distances(place, box)) > margin:
                    expected.append((t, p))
        assert listed(pairs, gt, priors) == expected


@pytest.mark.parametrize("radius", [0.0, 1.5])
@pytest.mark.parametrize("maps", MAPS, ids=str)
def test_reach_loses_none_that_is_near_enough(maps, radius):
    """The reach also saves places in the list."""
    reach = (20.0, 44.0, math.inf)
    saved = 0
    for priors, gt in scenes("points", maps):
        every = points_inside(priors, gt, radius=radius)
        pairs = points_inside(priors, gt, radius=radius, reach=reach)
        boxes, place = gt.boxes.tolist(), {p: (level, at) for p, level, at in locations(priors)}

        def near(t, p, boxes=boxes, place=place):
            return max(distances(place[p][1], boxes[t])) <= reach[place[p][0]]

        found = listed(pairs, gt, priors)
        assert found == [pair for pair in listed(every, gt, priors) if near(*pair)]
        saved += len(every.box) - len(pairs.box)
    assert saved > 0 or maps == MAPS[-1]


def lines(low, high, stride, offset, count):
    """Gives the lines of an axis in [low, high] in float64."""
    first = max(math.ceil(low / stride - offset), 0)
    return max(min(math.floor(high / stride - offset), count - 1) - first + 1, 0)


def hard_box(rng, stride, offset):
    """Makes boxes from 0.001 pixels to 100 maps. Half of them have both ends on lines."""
    sides = [10 ** rng.uniform(-3, 5) for _ in range(2)]
    low = [rng.uniform(-300, 1500) for _ in range(2)]
    if rng.random() < 0.5:
        low = [(round(v / stride) + offset) * stride for v in low]
        sides = [round(side / stride) * stride for side in sides]
    return [*low, low[0] + sides[0], low[1] + sides[1]]


@pytest.mark.parametrize("margin", [0.0, 77.0], ids=["box", "wider"])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("stride", [4, 8, 12, 64])
def test_the_list_is_never_too_short(stride, offset, margin):
    """Tests one box at a time, so that none uses the places of another."""
    rng = random.Random(stride)
    height, width = 900 // stride, 1300 // stride
    priors = PointGenerator((stride,), offset=offset)(((height, width),), CPU)
    half = margin / 2
    longest = 0
    for _ in range(200):
        gt = truth([hard_box(rng, stride, offset)])
        region = gt.boxes[:, None] + torch.tensor([-half, -half, half, half])
        pairs = within(priors, gt, region, margin=(margin,))
        x1, y1, x2, y2 = region.flatten().tolist()
        columns = lines(x1, x2, stride, offset, width)
        expected = columns * lines(y1, y2, stride, offset, height)
        assert int(pairs.exists.sum()) >= expected, gt.boxes
        assert len(pairs.box) <= full_vectors(len(priors)) and len(pairs.box) % VECTOR == 0
        longest = max(longest, expected)
    assert longest > len(priors) // 3


@pytest.mark.parametrize("reach", [(), (64.0, 128.0, 256.0)], ids=["all", "reach"])
def test_the_list_is_never_too_short_for_many_boxes(reach):
    """Tests hundreds of boxes. Half of them reach from line to line."""
    rng = random.Random(9)
    priors = GENERATORS["points without offset"](((50, 84), (25, 42), (13, 21)), CPU)
    boxes = [hard_box(rng, 32, 0.0) for _ in range(200)]
    boxes += [[32.0 * (i % 20), 64, 32.0 * (i % 20) + 32 * (i % 9), 96] for i in range(200)]
    gt = truth(boxes)
    pairs = points_inside(priors, gt, reach=reach)
    found = torch.zeros(len(gt), len(priors), dtype=torch.bool)
    found[pairs.box[pairs.exists], pairs.prior[pairs.exists]] = True
    sides = torch.cat(
        (priors.centers - gt.boxes[:, None, :2], gt.boxes[:, None, 2:] - priors.centers), dim=-1
    )
    expected = sides.amin(-1) > 0
    if reach:
        expected &= sides.amax(-1) <= torch.tensor(reach)[priors.level]
    assert (found | ~expected).all()
    assert expected.sum() > 1000


@pytest.mark.parametrize("box", [[-500, -500, -400, -380], [9000, 0, 9100, 90], [50, 50, 40, 40]])
def test_boxes_outside_and_inverted_ones_have_no_pairs(box):
    priors = GENERATORS["points"](MAPS[0], CPU)
    alone = points_inside(priors, truth([box]))
    assert not alone.exists.any()
    between = [[0.0, 0, 40, 40], box, [20.0, 20, 90, 70]]
    pairs = points_inside(priors, truth(between), reach=(64.0, 128.0, 256.0))
    assert pairs.box[pairs.exists].unique().tolist() == [0, 2]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("generator", GENERATORS)
def test_no_boxes(generator):
    priors = GENERATORS[generator](MAPS[0], CPU)
    gt = truth([])
    for pairs in (
        within(priors, gt, gt.boxes[:, None]),
        points_inside(priors, gt, radius=1.5, reach=(64.0, 128.0, math.inf)),
    ):
        assert [len(x) for x in pairs] == [0, 0, 0, 0]
        assert pairs.exists.dtype == torch.bool


@pytest.mark.parametrize("generator", GENERATORS)
def test_the_host_knows_the_length(generator):
    """The meta device has no values, so reading one raises."""
    priors = GENERATORS[generator](MAPS[0], CPU)
    gt = truth(random_boxes(random.Random(1), 7, 128, 96))
    here = points_inside(priors, gt, radius=2.5, reach=(64.0, 128.0, math.inf))
    there = points_inside(
        to_device(priors, "meta"), to_device(gt, "meta"), radius=2.5, reach=(64.0, 128.0, math.inf)
    )
    assert there.prior.device.type == "meta"
    assert there.prior.shape == here.prior.shape
