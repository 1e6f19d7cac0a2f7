"""Compares the mixtures with scikit-learn's, and the kernel with the plain form."""

import warnings

import numpy as np
import pytest
import torch

from dynamic_atss.assigners.reference.mixture import LOW_COMPONENT, low_component
from dynamic_atss.ops.library import load

native = pytest.mark.skipif(load()["cpu"] != "native", reason=f"CPU kernels: {load()['cpu']}")
COLUMNS = 45
KINDS = ("uniform", "two groups", "ties", "all equal", "skewed", "far apart")
FORMS = {"operator": LOW_COMPONENT, "plain": low_component}


def make_rows(kind, rows=60):
    """Makes rows of 0 to 45 increasing numbers, padded with inf."""
    generator = torch.Generator().manual_seed(KINDS.index(kind))
    count = torch.randint(0, COLUMNS + 1, (rows,), generator=generator)
    x = 3 * torch.rand(rows, COLUMNS, generator=generator, dtype=torch.float64)
    if kind == "two groups":
        high = torch.rand(rows, COLUMNS, generator=generator) < 0.5
        x = torch.where(high, 2 + 0.1 * x, 0.1 * x)
    if kind == "ties":
        x = (2 * x).round() / 2
    if kind == "all equal":
        x = torch.full_like(x, 1.234)
    if kind == "skewed":
        x = x**6
    if kind == "far apart":
        x[:, ::7] += 1e4
    x[torch.arange(COLUMNS) >= count[:, None]] = torch.inf
    return x.sort(1).values, count


def by_scikit_learn(row):
    """Gives the number of low values, and the likelihood of each (-inf for other values)."""
    sklearn = pytest.importorskip("sklearn.mixture")
    if len(row) < 2:
        return len(row), np.zeros(len(row))
    fitted = sklearn.GaussianMixture(
        2,
        weights_init=[0.5, 0.5],
        means_init=[[row[0]], [row[-1]]],
        precisions_init=[[[1.0]], [[1.0]]],
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low = fitted.fit_predict(row[:, None]) == 0
    likelihood = np.where(low, fitted.score_samples(row[:, None]), -np.inf)
    return (int(likelihood.argmax()) + 1 if low.any() else len(row)), likelihood


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_is_that_of_scikit_learn(kind, form):
    x, count = make_rows(kind)
    found, ties = FORMS[form](x, count).tolist(), 0
    for row, n, place in zip(x, count, found, strict=True):
        expected, likelihood = by_scikit_learn(row[:n].numpy())
        if place != expected:  # the libraries' exp and log differ, so the likeliest may nearly tie
            assert likelihood[place - 1] > -np.inf
            assert likelihood[place - 1] == pytest.approx(likelihood.max(), rel=1e-12)
            ties += 1
    assert ties <= len(found) // 20


@pytest.mark.parametrize("form", FORMS)
def test_two_clear_groups(form):
    """Of two groups of numbers, the low ones count up to the likeliest."""
    x = torch.tensor([[0.30, 0.31, 0.32, 0.33, 2.0, 2.01, 2.02]], dtype=torch.float64)
    assert 2 <= FORMS[form](x, torch.tensor([7])).item() <= 4
    assert FORMS[form](x, torch.tensor([1])).item() == 1
    assert FORMS[form](x, torch.tensor([0])).item() == 0


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_finite_is_not_split(form):
    x = torch.tensor([[0.0, 0.1, 5, 5.1]] * 4, dtype=torch.float64)
    x[1, 3], x[2, 0], x[3, 1] = torch.inf, -torch.inf, torch.nan
    found = FORMS[form](x, torch.full((4,), 4))
    assert found[0] < 4
    assert found[1:].tolist() == [4, 4, 4]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing(form, shape):
    found = FORMS[form](torch.zeros(shape, dtype=torch.float64), torch.zeros(shape[0]).long())
    assert found.tolist() == [0] * shape[0]


@pytest.mark.slow
def test_the_plain_form_never_waits_for_the_device():
    """The meta device has no values, so reading one raises."""
    x, count = (part.to("meta") for part in make_rows("uniform"))
    assert low_component(x, count).shape == count.shape


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_opcheck():
    torch.library.opcheck(LOW_COMPONENT, make_rows("uniform"))


@native
def test_a_wrong_argument_is_an_error_that_names_it():
    x, count = make_rows("uniform")
    for arguments, message in (
        ((x[0], count), "values has shape"),
        ((x.float(), count), "values has another dtype"),
        ((x, count[1:]), "count has shape"),
        ((x, count + COLUMNS + 1), "count must be from 0"),
        ((x, count - COLUMNS - 1), "count must be from 0"),
    ):
        with pytest.raises(RuntimeError, match=message):
            LOW_COMPONENT(*arguments)
