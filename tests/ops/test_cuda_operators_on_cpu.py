"""Compares the CUDA operators, compiled for the CPU with their host code, with the references."""

import pytest
import torch
from helpers_cuda_operators import operators
from helpers_nms import SCENES, crowd

from dynamic_atss.ops import focal, nms

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nms_op(tmp_path_factory):
    return operators("nms", tmp_path_factory.mktemp("nms")).batched_multiclass_nms


@pytest.fixture(scope="module")
def focal_ops(tmp_path_factory):
    return operators("focal", tmp_path_factory.mktemp("focal"))


def lists(found):
    return [x.tolist() for x in found]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCENES)
def test_nms(nms_op, name, dtype):
    boxes, scores, classes = SCENES[name]()
    scene = boxes.to(dtype), scores.to(dtype), classes
    for threshold, offset, limit in ((0.5, 1.0, None), (0.0, 0.0, 7)):
        wanted = nms._reference(*scene, threshold, offset, limit)
        assert lists(nms_op(*scene, threshold, offset, limit)) == lists(wanted)


def test_nms_of_inputs_that_are_not_contiguous(nms_op):
    boxes, scores, classes = crowd(3, 80, 3, seed=15)
    wanted = lists(nms_op(boxes, scores, classes, 0.5, 1.0, None))
    moved = boxes.permute(2, 0, 1).contiguous().permute(1, 2, 0), scores.t().contiguous().t()
    assert lists(nms_op(*moved, classes.t().contiguous().t(), 0.5, 1.0, None)) == wanted


def test_nms_says_what_is_wrong(nms_op):
    boxes, scores, classes = crowd(2, 5, 3)
    for arguments, message in (
        ((boxes[:1], scores, classes, 0.5, 1.0, None), "boxes have shape"),
        ((boxes, scores, classes.int(), 0.5, 1.0, None), "int64"),
        ((boxes, scores, classes, 0.5, 1.0, 0), "limit"),
    ):
        with pytest.raises(RuntimeError, match=message):
            nms_op(*arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [focal.SIGMOID, focal.QUALITY, focal.VARIFOCAL])
def test_focal(focal_ops, kind, dtype):
    generator = torch.Generator().manual_seed(0)
    for columns, gamma in ((80, 2.0), (7, 1.5)):
        precise = torch.promote_types(dtype, torch.float32)
        logits = (torch.randn(40, columns, generator=generator) * 5).to(dtype)
        classes = torch.randint(-2, columns, (40,), generator=generator)
        quality = torch.rand(40, generator=generator).to(precise)
        arguments = logits, classes, quality, torch.tensor(3.5, dtype=precise), kind, 0.3, gamma
        loss, gradient = focal_ops.focal_loss(*arguments)
        wanted_loss, wanted = focal._loss_and_gradient(*arguments)
        torch.testing.assert_close(loss, wanted_loss, rtol=5e-6, atol=0)  # many logarithms
        step = torch.finfo(dtype).eps
        torch.testing.assert_close(gradient, wanted, rtol=10 * step, atol=step)
        focal_ops.scale_(gradient, torch.tensor(0.5, dtype=precise))
        torch.testing.assert_close(gradient, wanted * 0.5, rtol=10 * step, atol=step)
