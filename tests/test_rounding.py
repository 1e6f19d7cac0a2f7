"""Tests the comparisons that allow another rounding, and the imitation of another rounding."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_rounding import assert_apart, assert_rounded, near_ties
from other_rounding import LANES, nudged

FULL = 1000 - 1000 % LANES  # of 1000 elements, the number in full vectors
X = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 1
INSTALLED = """
import other_rounding, torch
from helpers_rounding import assert_rounded
x = torch.rand(1000, dtype=torch.{dtype}) + 1
before = {{name: getattr(x, name)() for name in ("sqrt", "exp", "log", "sigmoid")}}
softplus = torch.nn.functional.softplus(x)
other_rounding.install()
for name, value in before.items():
    found = getattr(x, name)()
    step = (found - value).abs() / torch.finfo(x.dtype).eps / value.abs()
    assert 0.3 < (step > 0).double().mean() < 0.7 and step.max() <= 1.01, (name, step.max())
    assert_rounded(getattr(x[500:], name)()[:{full} - 500], found[500:{full}], 2)
    assert_rounded(getattr(x.clone(), name + "_")(), found, 2)
assert torch.equal(x**2, x * x)
assert (torch.nn.functional.softplus(x) != softplus).double().mean() > 0.3
assert torch.arange(9).sum() == 36
"""


def test_a_unit_counts_as_rounding_and_eight_do_not():
    for units in (1, -1):
        assert_rounded(X * (1 + units * 2**-23), X)
    with pytest.raises(AssertionError):
        assert_rounded(X * (1 + 8 * 2**-23), X)


def test_indices_may_differ_only_where_scores_nearly_tie():
    scores = torch.tensor([0.5, 0.5 + 2**-24, 0.25])
    assert near_ties(torch.tensor([0, 2]), torch.tensor([1, 2]), scores.take) == 1
    with pytest.raises(AssertionError):
        near_ties(torch.tensor([0, 2]), torch.tensor([1, 1]), scores.take)


def test_scores_that_nearly_tie_are_not_apart():
    assert_apart([0.9, 0.5, 0.1])
    with pytest.raises(AssertionError):
        assert_apart([0.9, 0.5, 0.5 - 1e-7])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_half_of_the_values_are_off_by_one_unit_by_their_bits(dtype):
    x = X.to(dtype)
    root = x.sqrt().double().to(dtype)
    found = nudged(root, x)
    step = (found.double() - root.double()) / torch.finfo(dtype).eps
    assert set(step.tolist()) == {-1, 0, 1}
    assert dtype == torch.bfloat16 or 0.4 < (step != 0).double().mean() < 0.6
    order = torch.randperm(FULL)
    assert torch.equal(found[:FULL][order], nudged(root[:FULL][order], x[:FULL][order]))


def test_elements_that_fill_no_vector_are_rounded_differently():
    """The same values are passed 15 at a time, which fill no vector, and all in full vectors."""
    count, root = 60 * LANES, X.sqrt()
    within = nudged(root[:count], X[:count])
    pairs = zip(root[:count].split(15), X[:count].split(15), strict=True)
    alone = torch.cat([nudged(*pair) for pair in pairs])
    assert 0.4 < (alone != within).double().mean() < 0.8
    assert torch.equal(nudged(root[: count + 15], X[: count + 15])[:count], within)


def test_exact_values_are_not_changed():
    short = torch.tensor([0.0, -0.0, 1, 0.5, 7, torch.inf, -torch.inf])
    for seed in range(20):
        assert torch.equal(nudged(short, short * seed + seed), short)
    assert nudged(torch.tensor([torch.nan]), torch.ones(1)).isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_functions_of_pytorch_are_replaced(dtype):
    """This needs a new process, as they stay replaced."""
    code = INSTALLED.format(dtype=dtype, full=FULL)
    folder = Path(__file__).parent
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
