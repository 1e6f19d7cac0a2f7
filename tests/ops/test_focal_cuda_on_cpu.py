"""Compares the CUDA kernels of the focal losses, run on the CPU, with the reference."""

import ctypes

import pytest
import torch
from helpers_cuda_on_cpu import compiled, pointer

from dynamic_atss.ops import focal
from dynamic_atss.ops.focal import QUALITY, SIGMOID, VARIFOCAL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return compiled("focal_on_cpu.cpp", tmp_path_factory.mktemp("focal"))


def make_inputs(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, columns, generator=generator) * 5
    classes = torch.randint(-2, columns, (rows,), generator=generator)
    return logits, classes, torch.rand(rows, generator=generator)


def run(kernels, logits, classes, quality, divisor, kind, alpha, gamma, *, blocks=3):
    gradient, loss = torch.full_like(logits, 7.0), torch.full((), 7.0)
    numbers = [ctypes.c_int64(len(logits)), ctypes.c_int(logits.shape[1]), ctypes.c_int64(kind)]
    numbers += [ctypes.c_float(alpha), ctypes.c_float(gamma), ctypes.c_uint(blocks)]
    wide = ctypes.c_bool(logits.shape[1] % 4 == 0)
    tensors = map(pointer, (logits, classes, quality, divisor, gradient, loss))
    kernels.focal_on_cpu(*tensors, *numbers, wide)
    return loss, gradient


@pytest.mark.parametrize("kind", [SIGMOID, QUALITY, VARIFOCAL])
@pytest.mark.parametrize("gamma", [2.0, 1.5])
@pytest.mark.parametrize("shape", [(61, 80), (200, 3), (1, 1), (0, 80)])
def test_value_and_gradient(kernels, kind, gamma, shape):
    logits, classes, quality = make_inputs(*shape)
    inputs = logits, classes, None if kind == SIGMOID else quality, torch.tensor(3.5)
    loss, gradient = run(kernels, *inputs, kind, 0.3, gamma)
    wanted = focal._loss_and_gradient(*inputs, kind, 0.3, gamma)
    torch.testing.assert_close(loss, wanted[0], rtol=5e-6, atol=0)  # of many logarithms
    torch.testing.assert_close(gradient, wanted[1], rtol=2e-5, atol=1e-6)


def test_far_out_and_not_a_number(kernels):
    logits = torch.tensor([[120.0, -120.0, 1e4, -1e4], [torch.nan, 0.0, 0.0, 0.0]])
    classes, quality = torch.tensor([0, -1]), torch.tensor([0.5, 0.0])
    inputs = logits, classes, quality, None, QUALITY, 0.0, 2.0
    loss, gradient = run(kernels, *inputs)
    assert loss.isnan()
    assert gradient.isnan().tolist() == [[False] * 4, [True, False, False, False]]
    ignored = torch.tensor([0, -2])
    loss, gradient = run(kernels, logits, ignored, *inputs[2:])
    wanted = focal._loss_and_gradient(logits[:1], ignored[:1], quality[:1], *inputs[3:])
    torch.testing.assert_close(loss, wanted[0])
    torch.testing.assert_close(gradient[:1], wanted[1])
    assert (gradient[1] == 0).all()


def test_any_number_of_blocks(kernels):
    """The grid is smaller or larger than the work."""
    inputs = *make_inputs(50, 80, seed=1), None, QUALITY, 0.0, 2.0
    gradients = [run(kernels, *inputs, blocks=blocks)[1] for blocks in (1, 7, 40)]
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_scale(kernels, wide, factor):
    gradient = torch.arange(4000, dtype=torch.float32)
    gradient[8] = torch.nan
    wanted, by = gradient * factor, torch.tensor(factor)
    kernels.scale_on_cpu(
        pointer(gradient), pointer(by), ctypes.c_int64(4000), ctypes.c_uint(2), ctypes.c_bool(wide)
    )
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=0, equal_nan=True)
