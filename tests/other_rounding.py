"""Imitates the rounding of another processor.

PyTorch's CPU functions return about half of their values off by one unit in the last place, and
sums of float32 are computed in float64. Which values are changed depends on the value and on the
position, as libraries compute the last elements of a tensor, which fill no vector, by other code.

`DYNAMIC_ATSS_TEST_ROUNDING=1 pytest ...` runs the tests in this way. A test that fails only then
expects the same bits from two libraries. The kernels of this project are not changed.
"""

from collections.abc import Callable

import torch
from torch import Tensor

FUNCTIONS = """
    sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sigmoid tanh sin cos atan erf silu gelu softplus
    atan2 hypot logaddexp pow.Tensor_Tensor pow.Scalar log_sigmoid_forward _softmax _log_softmax
""".split()
IN_PLACE = ("sqrt_", "rsqrt_", "exp_", "log_", "log1p_", "expm1_", "sigmoid_", "tanh_")
POWERS = ("pow.Tensor_Scalar",)
SUMS = """
    sum.dim_IntList mean.dim std.correction var.correction linalg_vector_norm
    mm addmm bmm baddbmm convolution native_group_norm
""".split()
LANES = 16  # float32 numbers in a vector of AVX-512
PRODUCTS = (0, 1, 2, -1)  # powers whose bits IEEE 754 fixes
BITS = {torch.float64: torch.int64, torch.float32: torch.int32}
BITS |= {torch.bfloat16: torch.int16, torch.float16: torch.int16}
EXACT = {torch.float64: 40, torch.float32: 12, torch.bfloat16: 3, torch.float16: 5}
FACTORS = {torch.int64: -7046029254386353131, torch.int32: -1640531535, torch.int16: -25033}

_library: list[torch.library.Library] = []  # keeps the object, without which its kernels are lost


def install() -> None:
    """Replaces the functions for the rest of the process."""
    if _library:
        return
    library = torch.library.Library("aten", "IMPL")
    _library.append(library)
    for kind, names in KINDS.items():
        for name in names:
            kernel = kind(torch.library.get_kernel(f"aten::{name}", "CPU").call_boxed)
            library.impl(name, kernel, "CPU", with_keyset=True, allow_override=True)


def _off_by_one(kernel: Callable) -> Callable:
    def run(keys, *arguments, **options):
        result = kernel(keys, *arguments, **options)
        first = result[0] if isinstance(result, tuple) else result
        first.copy_(nudged(first, *arguments))
        return result

    return run


def _off_in_place(kernel: Callable) -> Callable:
    def run(keys, x, *arguments, **options):
        before = x.clone()
        kernel(keys, x, *arguments, **options)
        return x.copy_(nudged(x, before, *arguments))

    return run


def _power_off_by_one(kernel: Callable) -> Callable:
    changed = _off_by_one(kernel)

    def run(keys, x, power):
        return kernel(keys, x, power) if power in PRODUCTS else changed(keys, x, power)

    return run


def _in_float64(kernel: Callable) -> Callable:
    def run(keys, *arguments, **options):
        dtypes = {x.dtype for x in arguments if isinstance(x, Tensor)}
        if dtypes != {torch.float32} or options.get("dtype") is not None:
            return kernel(keys, *arguments, **options)
        wider = (x.double() if isinstance(x, Tensor) else x for x in arguments)
        result = kernel(keys, *wider, **options)
        return tuple(x.float() for x in result) if isinstance(result, tuple) else result.float()

    return run


KINDS = {
    _off_by_one: FUNCTIONS,
    _off_in_place: IN_PLACE,
    _power_off_by_one: POWERS,
    _in_float64: SUMS,
}


def nudged(result: Tensor, *inputs: object) -> Tensor:
    """Changes about half of the values by one unit in the last place.

    The bits of the inputs decide which values, by another rule for the last numel % 16 elements.
    Keeps 0, infinities, NaN and numbers with few bits, as these are mostly exact: the root of a
    square, exp(0), the ends of a range.

    Args:
        result: any shape.
        inputs: the arguments of the function; tensors must broadcast to `result`.
    """
    kind = BITS.get(result.dtype)
    if kind is None:
        return result
    bits = result.contiguous().view(kind)
    exact = bits & ((1 << EXACT[result.dtype]) - 1) == 0
    hashed = _hash(result, inputs)
    hashed = torch.where(_left_over(result), hashed >> 2, hashed)
    step = torch.where(hashed & 1 == 0, 0, 1 - (hashed & 2)).to(kind)
    return torch.where(exact | ~result.isfinite(), bits, bits + step).view(result.dtype)


def _left_over(result: Tensor) -> Tensor:
    """Marks the last elements, which do not fill a vector."""
    count = result.numel()
    return torch.arange(count).view(result.shape) >= count - count % LANES


def _hash(result: Tensor, inputs: tuple[object, ...]) -> Tensor:
    """Hashes the inputs of each element, independently of its position."""
    total = torch.zeros(result.shape, dtype=BITS[result.dtype])
    for x in inputs:
        if isinstance(x, Tensor):
            bits = x.detach().to(result.dtype).expand(result.shape).contiguous().view(total.dtype)
            total = (total + bits) * FACTORS[total.dtype]
    return total >> (4 * total.element_size())
