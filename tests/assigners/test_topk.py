"""Tests the divisor of top-k's distances, the longest distance in the image."""

import pytest
import torch

from dynamic_atss.assigners.rules.topk import _longest_distance
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import GroundTruth


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("maps", [((9, 13), (5, 7), (3, 4)), ((1, 6), (4, 1), (1, 1))])
def test_the_longest_distance_is_that_of_the_farthest_prior(maps, dtype):
    priors = AnchorGenerator((8, 16, 32), (64, 128, 256))(maps, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    for count in (1, 2, 30):
        center = torch.rand(count, 2, generator=generator, dtype=dtype) * 200 - 40
        boxes = torch.cat((center - 5, center + 5), 1)
        image = torch.arange(count) * 3 // count
        found = _longest_distance(priors, GroundTruth(boxes, image, image), 4)
        for n in range(4):
            mine = center[image == n]
            far = [(p - c).norm() for p in priors.centers.to(dtype) for c in mine]
            expected = max(far) if far else torch.ones((), dtype=dtype)
            torch.testing.assert_close(found[n], expected, rtol=1e-6, atol=0)
