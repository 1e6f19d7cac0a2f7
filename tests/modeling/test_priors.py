"""Tests anchors: published values, order, caching."""

import pytest
import torch

from dynamic_atss.modeling.coder import DeltaCoder
from dynamic_atss.modeling.priors import AnchorGenerator, PointGenerator
from dynamic_atss.types import Level

CPU = torch.device("cpu")
STRIDES, SIZES = (8, 16, 32, 64, 128), (64, 128, 256, 512, 1024)
MAPS = ((5, 7), (3, 4), (2, 2), (1, 1), (1, 1))


def retinanet():
    return AnchorGenerator(STRIDES, (32, 64, 128, 256, 512), (0.5, 1.0, 2.0), 2.0, 3)


def test_published_first_cells():
    priors = AnchorGenerator(STRIDES, SIZES)(MAPS, CPU)
    assert priors.boxes[0].tolist() == [-27.5, -27.5, 35.5, 35.5]
    first = 0
    for level, stride in zip(priors.levels, STRIDES, strict=True):
        half = (8 * stride - 1) / 2
        center = stride / 2
        expected = [center - half, center - half, center + half, center + half]
        assert priors.boxes[first].tolist() == expected
        first += level.locations
    assert len(priors) == first == 35 + 12 + 4 + 1 + 1


def test_order_is_level_row_column_anchor():
    priors = retinanet()(MAPS, CPU)
    assert priors.per_location == 9
    assert priors.levels == tuple(Level(h, w, s) for (h, w), s in zip(MAPS, STRIDES, strict=True))
    index = 0
    for level in priors.levels:
        for row in range(level.height):
            for column in range(level.width):
                center = torch.tensor([column + 0.5, row + 0.5]) * level.stride
                here = priors.centers[index : index + 9]
                torch.testing.assert_close(here, center.expand(9, 2), rtol=0, atol=1e-4)
                index += 9
    assert index == len(priors)


def test_the_nine_anchors_of_retinanet():
    """Sorted by ratio, then scale. Sides are rounded at the stride's scale: 8 / sqrt(0.5) = 11.3
    becomes 11, and 5.5 becomes 6 (to even). Then they are multiplied by 4 and the scale."""
    box = retinanet()(MAPS, CPU).boxes[:9]
    size = box[:, 2:] - box[:, :2] + 1
    expected = [
        [w * 4 * 2 ** (i / 3), h * 4 * 2 ** (i / 3)]
        for w, h in ((11, 6), (8, 8), (6, 12))
        for i in (0, 1, 2)
    ]
    torch.testing.assert_close(size, torch.tensor(expected), rtol=1e-5, atol=1e-4)


def test_kept_by_size():
    make = AnchorGenerator(STRIDES, SIZES)
    assert make(MAPS, CPU) is make(list(MAPS), CPU)
    other = make(((6, 7), *MAPS[1:]), CPU)
    assert len(other) == len(make(MAPS, CPU)) + 7


def test_a_level_too_few():
    with pytest.raises(ValueError):
        AnchorGenerator(STRIDES, SIZES[:4])
    with pytest.raises(ValueError):
        AnchorGenerator(STRIDES, SIZES)(MAPS[:4], CPU)


def test_made_while_testing_used_in_training():
    """Priors are cached, and a backward pass cannot use tensors of inference mode."""
    make = AnchorGenerator(STRIDES, SIZES)
    with torch.inference_mode():
        make(MAPS, CPU)
    deltas = torch.zeros(53, 4, requires_grad=True)
    DeltaCoder().decode(deltas, make(MAPS, CPU).boxes).sum().backward()
    assert deltas.grad.isfinite().all()


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_points(offset):
    """FCOS has column * stride + stride // 2, and DSLA has column * stride."""
    sizes, strides = ((3, 5), (2, 3)), (8, 16)
    priors = PointGenerator(strides, offset)(sizes, torch.device("cpu"))
    expected = [
        [x * stride + offset * stride, y * stride + offset * stride]
        for (height, width), stride in zip(sizes, strides, strict=True)
        for y in range(height)
        for x in range(width)
    ]
    assert priors.centers.tolist() == expected
    assert not priors.sized and priors.offset == offset
    assert priors.strides.tolist() == [8.0] * 15 + [16.0] * 6
    assert priors.level.tolist() == [0] * 15 + [1] * 6
    assert priors.largest == (7.0, 15.0)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_points_with_a_size_are_the_anchors_of_atss(offset):
    points = PointGenerator(STRIDES, offset)(MAPS, CPU)
    anchors = AnchorGenerator(STRIDES, SIZES, offset=offset)(MAPS, CPU)
    sized = points.with_size()
    assert torch.equal(sized.boxes, anchors.boxes)
    assert (sized.levels, sized.largest) == (anchors.levels, anchors.largest)
    assert sized.sized and sized.offset == offset and sized is points.with_size()
    assert anchors.with_size() is anchors
