"""Comparisons of two routes that another library may round differently.

IEEE 754 fixes the bits of +, -, *, / and of a correctly rounded sqrt. It fixes neither PyTorch's
sqrt, exp, log and the like, which come from vector libraries that differ by processor, nor the
order of a sum. Those are compared in units in the last place, and what is chosen by them may
differ where two choices nearly tie.
"""

import torch

UNITS = 4  # of a few roundings, one after the other


def assert_rounded(found, expected, units=UNITS):
    """Equal but for so many units in the last place; NaN equals NaN."""
    close = units * torch.finfo(expected.dtype).eps
    torch.testing.assert_close(found, expected, rtol=close, atol=0, equal_nan=True)


def near_ties(found, expected, score, units=UNITS, size=0.0):
    """The number of indices that differ; each of them must have nearly the score of the other.

    Args:
        found, expected: indices of one shape.
        score: gives the scores of such indices, of their shape.
        size: of the terms whose difference a score is, if it is one.
    """
    other = found != expected
    a, b = score(found)[other], score(expected)[other]
    close = units * torch.finfo(a.dtype).eps
    torch.testing.assert_close(a, b, rtol=close, atol=close * size, equal_nan=True)
    return int(other.sum())


def assert_apart(scores, least=1e-5):
    """No two of the sorted scores are so near that another rounding could change their order."""
    assert torch.as_tensor(scores).diff().abs().min() > least
