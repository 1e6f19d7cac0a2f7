"""Compares the CUDA operators, compiled for the CPU with their host code, with the references."""

import pytest
import torch
from helpers_cuda_operators import ROUNDING, operators
from helpers_nms import SCENES, crowd
from helpers_odd_logits import DTYPES, KINDS, LOGITS, assert_rows_as_reference

from dynamic_atss.ops import focal, nms

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["as a CPU", "as a GPU, down"])
def nms_op(tmp_path_factory, request):
    """Gives the operator. It has no reciprocal, which could be rounded up or down."""
    return operators("nms", tmp_path_factory.mktemp("nms"), request.param).batched_multiclass_nms


@pytest.fixture(scope="module", params=ROUNDING)
def focal_ops(tmp_path_factory, request):
    return operators("focal", tmp_path_factory.mktemp("focal"), request.param)


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
        torch.testing.assert_close(gradient, wanted, rtol=10 * step, atol=2 * step)
        focal_ops.scale_(gradient, torch.tensor(0.5, dtype=precise))
        torch.testing.assert_close(gradient, wanted * 0.5, rtol=10 * step, atol=step)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOGITS)
def test_odd_logits(focal_ops, name, kind, dtype):
    for gamma, divisor in ((2.0, 3.0), (0.5, None)):
        assert_rows_as_reference(focal_ops.focal_loss, name, dtype, kind, gamma, divisor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("factor", [0.0, -2.5, 1e30, float("inf"), float("nan")])
def test_scaling_odd_gradients(focal_ops, factor, dtype):
    gradient = torch.tensor([0.0, -1e-7, 3.0, 6e4, float("inf"), float("nan")] * 3, dtype=dtype)
    wanted = (gradient.float() * factor).to(dtype)
    focal_ops.scale_(gradient, torch.tensor(factor))
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=0, equal_nan=True)
