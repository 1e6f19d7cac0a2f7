"""Compares results that another math library may round differently.

IEEE 754 fixes the bits of +, -, *, / and of a correctly rounded sqrt. It does not fix the order of
a sum, nor PyTorch's sqrt, exp, log and similar functions, which come from vector libraries that
differ by processor. Such results are compared in units in the last place. Choices that depend on
them may differ if two candidates nearly tie.
"""

import torch

UNITS = 4  # enough for a few consecutive roundings


def assert_rounded(found, expected, units=UNITS):
    """Asserts equality within so many units in the last place; NaN equals NaN."""
    close = units * torch.finfo(expected.dtype).eps
    torch.testing.assert_close(found, expected, rtol=close, atol=0, equal_nan=True)


def near_ties(found, expected, score, units=UNITS, size=0.0):
    """Counts the indices that differ, and asserts that their scores nearly tie.

    Args:
        found, expected: indices of one shape.
        score: gives the scores of such indices, in the same shape.
        size: the size of the terms if a score is a difference.
    """
    other = found != expected
    a, b = score(found)[other], score(expected)[other]
    close = units * torch.finfo(a.dtype).eps
    torch.testing.assert_close(a, b, rtol=close, atol=close * size, equal_nan=True)
    return int(other.sum())


def assert_apart(scores, least=1e-5):
    """Asserts that another rounding cannot change the order of the sorted scores."""
    assert torch.as_tensor(scores).diff().abs().min() > least
