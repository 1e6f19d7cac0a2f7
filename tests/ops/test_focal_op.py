"""Compares the focal kernels with the reference, and runs PyTorch's checks of operators."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck

from dynamic_atss.ops import focal, library
from dynamic_atss.ops.focal import (
    QUALITY,
    SIGMOID,
    VARIFOCAL,
    quality_focal_loss,
    sigmoid_focal_loss,
)

OP = torch.ops.dynamic_atss.focal_loss
KINDS = [SIGMOID, QUALITY, VARIFOCAL]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _compiled(request):
    device = request.node.callspec.params.get("device", "cpu") if hasattr(
        request.node, "callspec") else "cpu"  # fmt: skip
    if library.load()[device] != "native":
        pytest.skip(f"no kernels for {device}: {library.load()[device]}")


def make_inputs(rows=37, columns=80, dtype=torch.float32, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    precise = torch.promote_types(dtype, torch.float32)
    logits = (torch.randn(rows, columns, generator=generator) * 5).to(dtype)
    classes = torch.randint(-2, columns, (rows,), generator=generator)
    quality = torch.rand(rows, generator=generator, dtype=torch.float64).to(precise)
    return [x.to(device) for x in (logits, classes, quality, torch.tensor(2.5, dtype=precise))]


def assert_as_reference(*arguments):
    loss, gradient = OP(*arguments)
    wanted_loss, wanted = focal._loss_and_gradient(*arguments)
    assert loss.dtype == wanted_loss.dtype and gradient.dtype == wanted.dtype
    assert gradient.is_contiguous()
    step = torch.finfo(gradient.dtype).eps
    rtol = max(2 * step, 2e-6) if loss.dtype == torch.float32 else 1e-12
    torch.testing.assert_close(loss, wanted_loss, rtol=min(rtol, 1e-5), atol=1e-30, equal_nan=True)
    torch.testing.assert_close(gradient, wanted, rtol=10 * rtol, atol=rtol, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [2.0, 1.3, 0.0])
def test_every_kind_and_dtype(device, dtype, kind, gamma):
    assert_as_reference(*make_inputs(dtype=dtype, device=device), kind, 0.3, gamma)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 80), (1, 1), (3, 1), (1, 257), (1000, 3), (700, 80)])
def test_sizes(device, kind, shape):
    """Uses no element, one element, and several tasks."""
    assert_as_reference(*make_inputs(*shape, device=device), kind, 0.25, 2.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 120.0, -120.0, 1e30, -1e30])
@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_ties_and_huge(device, kind, value, gamma):
    _, *rest = make_inputs(6, 5, device=device)
    assert_as_reference(torch.full((6, 5), value, device=device), *rest, kind, 0.25, gamma)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_shows_where_it_is_and_in_the_sum(device, kind):
    logits, classes, quality, divisor = make_inputs(9, 40, device=device)
    classes[:3] = torch.tensor([-1, 5, -2])
    logits[0, 7] = logits[1, 5] = logits[2, 3] = torch.nan
    loss, gradient = OP(logits, classes, quality, divisor, kind, 0.25, 2.0)
    assert loss.isnan()
    assert gradient.isnan().nonzero().tolist() == [[0, 7], [1, 5]]  # the third row is ignored


def test_inputs_that_are_not_contiguous():
    logits, classes, quality, divisor = make_inputs(40, 16)
    arguments = logits.t().contiguous().t(), classes, quality, divisor
    strided = logits.repeat(1, 2)[:, ::2], classes.repeat_interleave(3)[::3], quality, divisor
    for inputs in (arguments, strided):
        assert_as_reference(*inputs, QUALITY, 0.0, 2.0)


def test_the_number_of_threads_does_not_matter():
    inputs = make_inputs(3000, 80)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(OP(*inputs, QUALITY, 0.0, 2.0))
    torch.set_num_threads(threads)
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0]) and torch.equal(gradient, results[0][1])


@pytest.mark.parametrize(
    "change, message",
    [
        ({0: torch.zeros(4)}, "logits have shape"),
        ({0: torch.zeros(4, 5, dtype=torch.int64)}, "floating point"),
        ({1: torch.zeros(3).long()}, "classes has shape"),
        ({1: torch.zeros(4)}, "classes has another dtype"),
        ({1: torch.tensor([0, 5, 0, 0])}, "class 5 of row 1"),
        ({2: torch.zeros(4, 1)}, "quality has shape"),
        ({2: torch.zeros(4).double()}, "quality has another dtype"),
        ({2: None}, "needs the quality"),
        ({4: 3}, "no such kind"),
        ({3: torch.zeros(2)}, "divisor must be one number"),
        ({3: torch.tensor(1)}, "divisor must be one number"),
    ],
)
def test_wrong_arguments(change, message):
    tensors = torch.zeros(4, 5), torch.zeros(4).long(), torch.zeros(4), torch.tensor(1.0)
    arguments = [*tensors, QUALITY]
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(RuntimeError, match=message):
        OP(*arguments, 0.0, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(device, kind):
    logits, *rest = make_inputs(5, 8, device=device)
    torch.library.opcheck(OP, (logits.requires_grad_(), *rest, kind, 0.25, 2.0))
    torch.library.opcheck(OP, (logits.detach(), rest[0], rest[1], None, kind, 0.25, 2.0))
    torch.library.opcheck(
        torch.ops.dynamic_atss.scale_, (logits.detach().clone(), torch.tensor(2.0, device=device))
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [2.0, 1.5])
def test_gradcheck(device, kind, gamma):
    logits, *rest = make_inputs(6, 5, torch.float64, device)
    logits = (logits / 5).requires_grad_()
    assert gradcheck(lambda x: OP(x, *rest, kind, 0.4, gamma)[0], logits)
    assert gradcheck(lambda x: 3 * focal._OnePass.apply(x, *rest, kind, 0.4, gamma), logits)


def test_a_graph_that_is_used_twice():
    """The gradient is scaled in place and returned, so the second backward computes it again."""
    logits, classes, quality, divisor = make_inputs()
    logits.requires_grad_()
    loss = quality_focal_loss(logits, classes, quality, divisor=divisor)
    first, second = (
        torch.autograd.grad(factor * loss, logits, retain_graph=True)[0] for factor in (0.5, 2.0)
    )
    assert torch.equal(4 * first, second)


def test_the_gradient_is_of_the_dtype_of_the_logits():
    logits, classes, quality, divisor = make_inputs(dtype=torch.bfloat16)
    loss = quality_focal_loss(logits.requires_grad_(), classes, quality, divisor=divisor)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("compiled", [False, True])
def test_a_gradient_scaler_saves_what_would_vanish_in_float16(compiled):
    """Compares with the gradient in float64, for small scores and many positives."""
    logits, classes, quality, _ = make_inputs(60, 80, torch.float16)
    logits, divisor, scale = logits / 5 - 4.6, torch.tensor(200.0), 65536.0
    exact = logits.double().requires_grad_()
    loss = quality_focal_loss(exact, classes, quality.double(), divisor=divisor)
    (loss * scale).backward()

    def step(x):
        return quality_focal_loss(x, classes, quality, divisor=divisor)

    step = torch.compile(step, fullgraph=True, backend="aot_eager") if compiled else step
    logits.requires_grad_()
    (step(logits) * scale).backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": torch.zeros(37)}, r"logits .*\(37,\) torch.float32.*\(M, C\)"),
        ({"logits": torch.zeros(37, 80).long()}, "logits .*int64.* floats"),
        ({"logits": torch.zeros(37, 0)}, "logits .*C > 0"),
        ({"classes": torch.zeros(1).long()}, r"classes .*\(1,\) torch.int64.*\(37,\)"),
        ({"classes": torch.zeros(37).int()}, "classes .*int32.* int64"),
        ({"quality": torch.zeros(1)}, r"quality .*\(1,\) .*\(37,\)"),
        ({"quality": None}, "quality is None"),
        ({"divisor": torch.ones(2)}, r"divisor .*\(2,\)"),
    ],
)
def test_other_shapes_and_dtypes_are_an_error_with_and_without_kernels(change, message):
    logits, classes, quality, divisor = make_inputs()
    given = {"logits": logits, "classes": classes, "quality": quality, "divisor": divisor}
    with pytest.raises(ValueError, match=message):
        quality_focal_loss(**given | change)


def test_tensors_on_several_devices_are_an_error():
    logits, classes, quality, divisor = make_inputs()
    for other in ({"classes": classes.to("meta")}, {"divisor": divisor.to("meta")}):
        given = {"classes": classes, "quality": quality, "divisor": divisor} | other
        with pytest.raises(ValueError, match=r"tensors on cpu.*meta"):
            quality_focal_loss(logits, **given)


def test_no_gradient_of_labels_and_divisor():
    logits, classes, quality, divisor = make_inputs()
    quality.requires_grad_()
    divisor.requires_grad_()
    quality_focal_loss(logits.requires_grad_(), classes, quality, divisor=divisor).backward()
    assert quality.grad is None and divisor.grad is None and logits.grad is not None


def test_divisor():
    logits, classes, _, divisor = make_inputs()
    (gradient,) = torch.autograd.grad(
        sigmoid_focal_loss(logits.requires_grad_(), classes) / divisor, logits
    )
    loss = sigmoid_focal_loss(logits, classes, divisor=divisor)
    torch.testing.assert_close(loss, sigmoid_focal_loss(logits, classes) / divisor)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], gradient)


def test_compile_without_a_graph_break():
    """The backend aot_eager traces forward and backward without a slow C++ compilation."""
    inputs = make_inputs(20, 8)

    def step(logits, classes, quality, divisor):
        return quality_focal_loss(logits * 2, classes, quality, divisor=divisor)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    gradients = []
    for call in (step, compiled):
        logits = inputs[0].clone().requires_grad_()
        (3 * call(logits, *inputs[1:])).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_without_kernels_the_reference_serves():
    code = (
        "import torch; from dynamic_atss.ops import library;"
        "from dynamic_atss.ops.focal import quality_focal_loss as f;"
        "x = torch.ones(3, 2, requires_grad=True);"
        "f(x, torch.tensor([0, -1, -2]), torch.ones(3)).backward();"
        "print(library.serving('cpu'), x.grad.sum().item())"
    )
    x = torch.ones(3, 2, requires_grad=True)
    quality_focal_loss(x, torch.tensor([0, -1, -2]), torch.ones(3)).backward()
    environment = {"DYNAMIC_ATSS_NATIVE": "0", "PATH": "/usr/bin:/bin"}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split(" ")
    assert " ".join(output[:-1]) == "plain PyTorch: switched off by DYNAMIC_ATSS_NATIVE=0"
    assert float(output[-1]) == pytest.approx(x.grad.sum().item(), rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 15, 16, 80, 91])
@pytest.mark.parametrize("gamma", [2.0, 1.3, 0.0])
def test_losses_of_rows(dtype, columns, gamma):
    logits, classes, *_ = make_inputs(columns=columns, dtype=dtype)
    logits[0], logits[1] = 120.0, -120.0
    logits[2, 0] = float("nan")
    rows = torch.tensor([36, 0, 1, 1, 2, *range(30)])
    arguments = logits, rows, classes[rows], 0.3, gamma
    found, wanted = focal._ROWS(*arguments), focal._losses_of_rows(*arguments)
    assert found.dtype == wanted.dtype
    rtol = 1e-9 if dtype == torch.float64 else 1e-5  # PyTorch's softplus(x) is x from 20 on
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=1e-30, equal_nan=True)
    turned = logits.t().contiguous().t()  # not contiguous
    again = focal._ROWS(turned, *arguments[1:])
    torch.testing.assert_close(again, found, rtol=0, atol=0, equal_nan=True)


def test_losses_of_rows_as_pytorch_wants_an_operator():
    logits, classes, *_ = make_inputs()
    torch.library.opcheck(focal._ROWS, (logits, torch.arange(len(logits)), classes, 0.25, 2.0))
    for place, wrong, message in (
        (0, logits[0], "logits have shape"),
        (1, torch.full((37,), 37), "an index of rows is out"),
        (1, torch.full((37,), -1), "an index of rows is out"),
        (1, torch.zeros(37), "rows has another dtype"),
        (2, torch.full((37,), 80), "a class is not below"),
        (2, classes[1:], "classes has shape"),
    ):
        arguments = [logits, torch.arange(len(logits)), classes, 0.25, 2.0]
        arguments[place] = wrong
        with pytest.raises(RuntimeError, match=message):
            focal._ROWS(*arguments)


INFINITE = [float("-inf"), -1e30, -1000.0, -104.0, 0.0, 104.0, 1000.0, 1e30, float("inf")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_without_end_have_the_loss_of_their_limit(device, dtype, gamma, kind):
    """The loss is 0 or infinite, and the gradient is that of a large logit. Tests each case
    separately, because an infinite loss hides all others. No quality is 0.5, the probability of
    logit 0: a power below 1 has an infinite slope there, and a unit in the last place shows."""
    for x in INFINITE:
        for label, value in ((-1, 0.0), (0, 0.0), (0, 0.4), (0, 1.0)):
            logits = torch.tensor([[x, -2.0]], dtype=dtype, device=device)
            classes = torch.tensor([label], device=device)
            quality = None if kind == SIGMOID else torch.tensor([value], dtype=dtype, device=device)
            loss, gradient = OP(logits, classes, quality, None, kind, 0.25, gamma)
            labels = None if quality is None else quality.double()
            wanted, slope = focal._loss_and_gradient(
                logits.double(), classes, labels, None, kind, 0.25, gamma
            )
            assert not wanted.isnan() and slope.isfinite().all()
            torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-12)
            # A GPU's probability of 1 may be off by a unit in the last place, 1.2e-7.
            torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=3e-7)


@pytest.mark.parametrize("x", INFINITE)
def test_rows_with_logits_without_end(x):
    logits = torch.tensor([[x] + [-2.0] * 20, [x] + [1.0] * 20])
    rows, classes = torch.tensor([0, 1, 0]), torch.tensor([0, -1, 3])
    found = focal.sigmoid_focal_rows(logits, rows, classes)
    wanted = focal._losses_of_rows(logits.double(), rows, classes, 0.25, 2.0)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-12)
    alone = focal._loss_and_gradient(logits[:1].double(), classes[:1], None, None, 0, 0.25, 2.0)
    torch.testing.assert_close(wanted[0], alone[0])
