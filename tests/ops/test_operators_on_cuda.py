"""Tests the operators on a GPU: sizes beyond one launch, streams, precision against float64."""

import pytest
import torch
from helpers_nms import crowd

from dynamic_atss.ops import focal, library
from dynamic_atss.ops.focal import quality_focal_loss, sigmoid_focal_loss, varifocal_loss
from dynamic_atss.ops.nms import batched_multiclass_nms

pytestmark = pytest.mark.cuda
KINDS = {"focal": focal.SIGMOID, "quality": focal.QUALITY, "varifocal": focal.VARIFOCAL}
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# More elements than one launch covers at 1,024 elements per block, so blocks loop.
SIZES = [(0, 80), (1, 1), (37, 80), (333, 33), (22_400, 80), (220_000, 80)]


@pytest.fixture(autouse=True)
def _compiled():
    if library.load()["cuda"] != "native":
        pytest.skip(f"no kernels for cuda: {library.load()['cuda']}")


def make_inputs(rows, columns, dtype):
    generator = torch.Generator().manual_seed(rows)
    logits = (torch.randn(rows, columns, generator=generator) * 4 - 2).to("cuda", dtype)
    classes = torch.randint(-2, columns, (rows,), generator=generator).cuda()
    return logits, classes, torch.rand(rows, generator=generator).cuda()


def loss_of(kind, logits, classes, quality, divisor):
    if kind == "focal":
        return sigmoid_focal_loss(logits, classes, divisor=divisor)
    loss = quality_focal_loss if kind == "quality" else varifocal_loss
    return loss(logits, classes, quality, divisor=divisor)


def in_float64(kind, logits, classes, quality, divisor):
    """Computes value and gradient by the plain form in float64."""
    alpha = {"focal": 0.25, "quality": 0.0, "varifocal": 0.75}[kind]
    arguments = logits.double(), classes, quality.double(), divisor.double()
    return focal._loss_and_gradient(*arguments, KINDS[kind], alpha, 2.0)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_focal_losses_forward_and_backward_beside_float64(kind, dtype, size):
    logits, classes, quality = make_inputs(*size, dtype)
    divisor = torch.tensor(7.0, device="cuda")
    expected, wanted = in_float64(kind, logits, classes, quality, divisor)
    loss = loss_of(kind, logits.requires_grad_(), classes, quality, divisor)
    (3 * loss).backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-6)
    # Below float16's smallest normal number, the resolution is 6e-5 * 2^-10.
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(
        logits.grad.double(), 3 * wanted, rtol=max(8 * step, 1e-4), atol=max(step / 8, 1e-6)
    )


@pytest.mark.parametrize("shape", [(1, 30_000), (16, 5_000), (3, 257), (130, 310)])
@pytest.mark.parametrize("classes", [1, 40])
def test_nms_of_any_size_keeps_what_the_cpu_keeps(shape, classes):
    if shape[1] == 30_000 and classes == 1:
        shape = (1, 10_000)  # one class is a chain of tiles
    scene = crowd(*shape, classes, seed=18)
    there = batched_multiclass_nms(*(x.cuda() for x in scene), 0.5)
    here = batched_multiclass_nms(*scene, 0.5)
    for a, b in zip(there, here, strict=True):
        assert torch.equal(a.cpu(), b)
    assert here[1].min() > 1


def keep_busy():
    """Queues milliseconds of work on the current stream."""
    busy = torch.rand(4000, 4000, device="cuda")
    for _ in range(10):
        busy = busy @ busy / 4000


def test_nms_runs_on_the_current_stream():
    """The inputs are written late, so work on another stream would read the old values."""
    scene = [x.cuda() for x in crowd(4, 500, 5, seed=19)]
    expected = batched_multiclass_nms(*scene, 0.5)
    late, stream = [torch.zeros_like(x) for x in scene], torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        keep_busy()
        for x, y in zip(late, scene, strict=True):
            x.copy_(y)
        found = batched_multiclass_nms(*late, 0.5)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_focal_losses_run_on_the_current_stream(kind):
    logits, classes, quality = make_inputs(5000, 80, torch.float32)
    divisor = torch.tensor(7.0, device="cuda")
    expected, wanted = in_float64(kind, logits, classes, quality, divisor)
    late, stream = torch.full_like(logits, torch.nan), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        keep_busy()
        late.copy_(logits)
        late.requires_grad_()
        loss = loss_of(kind, late, classes, quality, divisor)
        (gradient,) = torch.autograd.grad(loss, late)
    torch.cuda.synchronize()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_focal_losses_do_not_wait_for_the_gpu(kind):
    logits, classes, quality = make_inputs(5000, 80, torch.bfloat16)
    divisor = torch.tensor(7.0, device="cuda")
    logits.requires_grad_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss_of(kind, logits, classes, quality, divisor).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert logits.grad.isfinite().all()


def test_the_same_on_the_second_gpu():
    """The operators run on the device of their tensors, even if another device is current."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    scene = crowd(2, 300, 3, seed=20)
    there = batched_multiclass_nms(*(x.to("cuda:1") for x in scene), 0.5)
    here = batched_multiclass_nms(*scene, 0.5)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(there, here, strict=True))
    assert there[0].get_device() == 1
