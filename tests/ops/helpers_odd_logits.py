"""Makes inputs of the focal losses: random, empty, tied, huge and not finite ones.

Each row is compared alone, because an infinite loss hides the others of its sum.
"""

import torch

from dynamic_atss.ops import focal
from dynamic_atss.ops.focal import QUALITY, SIGMOID, VARIFOCAL

INF, NAN = float("inf"), float("nan")
KINDS = {"focal": SIGMOID, "quality": QUALITY, "varifocal": VARIFOCAL}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
LOGITS = {
    "random": (-7.3, -1.1, 0.4, 2.2, 9.7),
    "tied": (0.0, 0.0, 0.0),
    "tiny": (1e-40, -1e-40, 1e-7, -1e-7),
    "huge": (-1e38, -1e30, -6e4, -104.0, -88.0, 20.0, 88.0, 104.0, 6e4, 1e30, 1e38),
    "not finite": (INF, -INF, NAN),
    "empty": (),
}
# (class, quality). Near a logit of equal probability, a power below 1 has no slope: none has 0.5.
LABELS = ((-2, 0.4), (-1, 0.0), (0, 0.0), (0, 0.3), (1, 1.0), (0, NAN))


def rows_of(name, dtype):
    """Gives logits (M, 2), classes (M,) and quality (M,) of all pairs of a logit and a label."""
    pairs = [(x, *label) for x in LOGITS[name] for label in LABELS]
    logits = torch.tensor([[x, x / 2] for x, *_ in pairs], dtype=torch.float64).view(-1, 2)
    classes = torch.tensor([label for _, label, _ in pairs], dtype=torch.int64)
    quality = torch.tensor([q for *_, q in pairs], dtype=torch.float32)
    return logits.to(dtype), classes, quality


def assert_rows_as_reference(op, name, dtype, kind, gamma, divisor, device="cpu"):
    """Compares each row's loss and gradient by `op` on `device` with plain PyTorch on the CPU."""
    inputs = rows_of(name, dtype)
    by = None if divisor is None else torch.tensor(divisor)
    numbers = KINDS[kind], 0.25, gamma
    step = torch.finfo(dtype).eps
    for at in range(max(len(inputs[0]), 1)):
        row = [x[at : at + 1] for x in inputs]
        there = [None if x is None else x.to(device) for x in (*row, by)]
        loss, gradient = (x.cpu() for x in op(*there, *numbers))
        wanted, slope = focal._loss_and_gradient(*row, by, *numbers)
        what = f"{row}, divisor {divisor}"
        # A probability of 1 may be off by a unit in the last place, 1.2e-7.
        close = {"equal_nan": True, "msg": lambda text, what=what: f"{what}: {text}"}
        torch.testing.assert_close(loss, wanted, rtol=2e-5, atol=1e-9, **close)
        torch.testing.assert_close(gradient, slope, rtol=max(4 * step, 5e-5), atol=3e-7, **close)
