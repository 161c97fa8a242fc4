"""k-hat and smoothed weights against arviz-stats and against tail indices known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from taut.diagnostics import fit_pareto, khat, khat_limit, lower_tail_khat, psis


@pytest.mark.parametrize("sd", [0.1, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("n", [40, 225, 226, 1000, 16000])
def test_psis_is_that_of_arviz(sd: float, n: int):
    x = np.random.default_rng(n).normal(size=n) * sd - 800.0
    smooth, k = psis(x)
    theirs, their_k = array_stats.psislw(-x)
    # Same estimator in float64: only the order of sums differs.
    assert abs(k - float(their_k)) < 1e-10
    np.testing.assert_allclose(smooth, theirs, atol=1e-10)


@pytest.mark.parametrize("v", [0.7, 0.5])
def test_khat_of_a_narrow_gaussian(v: float):
    # q = N(0, v), p = N(0, 1): w = exp(c z^2) has tail index k = 1 - v. At 1e5 draws the estimate sits a little
    # off its limit: .288 and .467 by independent simulation. Single values scatter by .05, the mean of 16 by .013.
    rng = np.random.default_rng(5)
    found = []
    for _ in range(16):
        z = rng.normal(size=100_000) * math.sqrt(v)
        found.append(khat(-0.5 * z**2 + 0.5 * z**2 / v))
    assert abs(np.mean(found) - {0.7: 0.288, 0.5: 0.467}[v]) < 0.04
    assert abs(np.mean(found) - (1 - v)) < 0.07


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_fit_of_exact_pareto_quantiles(k: float):
    # The data are the quantiles themselves, so the fit has no sampling error: what is left is the prior's pull of
    # 10 / (n + 10) towards 1/2 and the truncation at the last quantile.
    n = 20_000
    p = np.arange(0.5, n) / n
    shape, scale = fit_pareto(3.0 * np.expm1(-k * np.log1p(-p)) / k)
    assert abs(shape - k) < 0.01
    assert abs(scale - 3.0) < 0.03


def test_constant_weights_have_no_tail():
    for value in (0.0, -800.0, 1e4):
        smooth, k = psis(np.full(1000, value))
        assert k == -math.inf
        np.testing.assert_allclose(smooth, -math.log(1000), atol=1e-12)
    noise = np.random.default_rng(0).normal(size=1000) * 1e-13
    assert khat(noise - 31.0) == -math.inf


def test_degenerate_weights_are_said_to_be_so():
    one = np.full(1000, -np.inf)
    one[7] = 3.0
    smooth, k = psis(one)
    assert k == math.inf
    assert smooth[7] == 0.0
    smooth, k = psis(np.full(100, -np.inf))
    assert k == math.inf
    assert np.all(smooth == -np.inf)
    assert khat([np.nan] * 100) == math.inf
    assert khat(np.zeros(1000) + np.r_[np.zeros(999), 2000.0]) == math.inf
    assert khat(np.arange(20.0)) == math.inf  # too few to fit a tail


def test_a_tail_with_zero_weights_in_the_body_is_unchanged_by_them():
    # Zeros lie below the cutoff; only the size of the tail knows of them.
    x = np.random.default_rng(1).normal(size=4000)
    with_zeros = np.r_[x, np.full(12_000, -np.inf)]
    top = np.r_[np.full(12_000, -50.0), x]
    assert abs(khat(with_zeros) - khat(top)) < 1e-9


def test_limit():
    assert khat_limit(100) == 0.5
    assert khat_limit(320) == pytest.approx(0.600, abs=1e-3)
    assert khat_limit(1000) == pytest.approx(2 / 3)
    assert khat_limit(2200) == 0.7
    assert khat_limit(1_000_000) == 0.7
    assert khat_limit(5) == 0.0


def test_lower_tail_tells_an_elbo_without_a_mean():
    # q Cauchy, p Normal: -log w = z^2/2 - log(1 + z^2) + c, whose tail index is 2 (a mean needs 1). q = N(0, v): a
    # chi-squared tail, index 0. The shape's standard error is (1 + k) / sqrt(379 tail draws): .15 and .05.
    rng = np.random.default_rng(2)
    z = rng.standard_cauchy(16_000)
    assert abs(lower_tail_khat(-0.5 * z**2 + np.log1p(z**2)) - 2.0) < 0.45
    z = 1.5 * rng.normal(size=16_000)
    assert abs(lower_tail_khat(-0.5 * z**2 + 0.5 * z**2 / 2.25)) < 0.2
    assert lower_tail_khat(np.full(100, 2.0)) == -math.inf
    assert lower_tail_khat(np.r_[np.zeros(100), -np.inf]) == math.inf
