"""Compares the statistics with known values and with loops."""

import math
import statistics

import numpy as np
import pytest

from dynamic_atss.comparison.statistics import (
    Difference,
    paired,
    pearson,
    spearman,
    spread,
    t_quantile,
    t_within,
)

# From a printed table of Student's t, two-sided 95 %.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
TABLE |= {10: 2.228, 15: 2.131, 20: 2.086, 29: 2.045, 30: 2.042, 60: 2.000, 120: 1.980}


@pytest.mark.parametrize("freedom", TABLE)
def test_t_quantiles_are_those_of_the_table(freedom):
    assert t_quantile(freedom) == pytest.approx(TABLE[freedom], abs=5.1e-4)


def test_t_quantiles_at_other_probabilities():
    assert t_quantile(1, 0.75) == pytest.approx(1)  # Cauchy
    assert t_quantile(2, 0.995) == pytest.approx(9.925, abs=5e-4)
    assert t_quantile(10_000) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=5e-4)


@pytest.mark.parametrize("freedom", range(1, 8))
def test_the_distribution_is_the_integral_of_its_density(freedom):
    """Integrates the density by Simpson's rule."""
    end, steps = 1.7, 2000
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    total = 0.0
    for k in range(steps + 1):
        x = end * k / steps
        weight = 1 if k in (0, steps) else 4 if k % 2 else 2
        total += weight * scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    assert t_within(end, freedom) == pytest.approx(2 * total * end / steps / 3, rel=1e-9)


def test_spread():
    assert spread([]) is None
    assert spread([0.3]) == (1, 0.3, None)
    assert spread([1.0, 2.0, 4.0]) == pytest.approx((3, 7 / 3, math.sqrt(7 / 3)))


def test_paired_differences_are_of_common_seeds():
    found = paired({0: 0.5, 1: 0.6, 2: 0.8, 7: 9.0}, {2: 0.5, 1: 0.5, 0: 0.5, 8: 1.0})
    sd = math.sqrt(((0 - 4 / 30) ** 2 + (0.1 - 4 / 30) ** 2 + (0.3 - 4 / 30) ** 2) / 2)
    half = 4.302653 * sd / math.sqrt(3)
    assert found == pytest.approx((3, 4 / 30, 4 / 30 - half, 4 / 30 + half), rel=1e-6)
    assert found.verdict == "not significantly different" and not found.significant


def test_verdicts():
    assert paired({0: 0.5}, {1: 0.5}) is None
    one = paired({0: 0.5}, {0: 0.4})
    assert one[0] == 1 and one[2:] == (None, None) and not one.significant
    assert one.verdict == "unknown with one seed"
    assert Difference(3, 0.1, 0.01, 0.19).verdict == "higher"
    assert Difference(3, -0.1, -0.19, -0.01).verdict == "lower"
    assert Difference(3, 0.1, 0.0, 0.2).verdict == "not significantly different"


def test_correlations_equal_those_of_loops():
    generator = np.random.default_rng(0)
    a = generator.integers(0, 6, 40).astype(float)  # with ties
    b = a + generator.normal(0, 2, 40)
    rank_a, rank_b = (
        np.array([sum(y < x for y in v) + (sum(y == x for y in v) - 1) / 2 for x in v])
        for v in (a, b)
    )
    for found, x, y in ((pearson(a, b), a, b), (spearman(a, b), rank_a, rank_b)):
        mean_x, mean_y = sum(x) / 40, sum(y) / 40
        products = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
        squares = sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y)
        assert found == pytest.approx(products / math.sqrt(squares))
    assert spearman(a, np.exp(b)) == pytest.approx(spearman(a, b))


def test_correlations_that_are_undefined():
    same = np.full(5, 0.1 + 0.2)
    assert pearson(same, np.arange(5.0)) is None and spearman(np.arange(5.0), same) is None
    assert pearson(np.zeros(0), np.zeros(0)) is None
