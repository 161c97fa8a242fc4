"""Exact tests of reductions of weights: bias orders, tails, power moments, thermodynamic integrals."""

from __future__ import annotations

import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import digamma, polygamma, roots_legendre

from taut import objectives
from taut._precision import scope
from taut.diagnostics import khat


def coefficients(size: int, order: int) -> list[float]:
    """What the jackknife multiplies the mean over subsets of size K - j by."""
    return [(-1) ** j * (size - j) ** order / (math.factorial(order - j) * math.factorial(j)) for j in range(order + 1)]


def jackknife_bias(bias, size: int, order: int) -> float:
    """Exact: the jackknife is linear in the log means of subsets, and each subset's has the bias of its size."""
    return math.fsum(c * bias(size - j) for j, c in enumerate(coefficients(size, order)))


def gamma_bias(size: int) -> float:
    return float(digamma(size)) - math.log(size)


def inverse_gaussian_bias(size: int) -> float:
    """-e^x E1(x) at x = 2 K, as the integral of -exp(-t) / (x + t): the product itself overflows at K = 360."""
    x = 2.0 * size
    value, _ = integrate.quad(lambda t: math.exp(-t) / (x + t), 0, np.inf, epsabs=0, epsrel=1e-13)
    return -value


def test_iwae_of_gamma_weights_has_digamma_for_its_mean_and_trigamma_for_its_variance():
    exact = {1: -0.5772156649, 2: -0.2703628455, 5: -0.1033202440, 16: -0.0315753939, 64: -0.0078328446}
    variance = {1: 1.644934, 2: 0.644934, 5: 0.221323, 16: 0.0644938}
    reps = 60_000
    rng = np.random.default_rng(0)
    for size, mean in exact.items():
        assert gamma_bias(size) == pytest.approx(mean, abs=1e-10)
        with scope("float64"):
            w = jnp.log(jnp.asarray(rng.gamma(1.0, size=(size, reps))))
            found = np.asarray(objectives.IWAE(size).reduce(w))
        assert abs(found.mean() - mean) < 4.5 * found.std() / math.sqrt(reps)
        if size in variance:
            assert float(polygamma(1, size)) == pytest.approx(variance[size], rel=2e-6)
            # A variance of log-Gamma variables is known to sqrt(4.4 / n), their kurtosis being at most 5.4.
            assert found.var() == pytest.approx(variance[size], rel=4.5 * math.sqrt(4.4 / reps))


@pytest.mark.parametrize("order, exact", [(1, 3.468e-4), (2, 4.94e-7)])
def test_jackknife_of_gamma_weights(order: int, exact: float):
    assert jackknife_bias(gamma_bias, 16, order) == pytest.approx(exact, rel=1e-3)
    w = np.random.default_rng(order).gamma(1.0, size=(16, 40_000))
    with scope("float64"):
        found = np.asarray(objectives.JVI(16, order).reduce(jnp.log(jnp.asarray(w))))
    assert abs(found.mean() - exact) < 4.5 * found.std() / math.sqrt(found.size)


def test_jackknife_orders_on_inverse_gaussian_weights():
    for size, exact in ((1, -0.3613286169), (5, -0.0915633339), (16, -0.0303293714)):
        assert inverse_gaussian_bias(size) == pytest.approx(exact, abs=1e-10)
    assert jackknife_bias(inverse_gaussian_bias, 64, 2) == pytest.approx(-9.329e-7, rel=1e-3)
    w = np.random.default_rng(0).wald(1.0, 1.0, size=(5, 60_000))
    for order in (0, 1, 2, 3):
        exact = jackknife_bias(inverse_gaussian_bias, 5, order)
        with scope("float64"):
            found = np.asarray(objectives.JVI(5, order).reduce(jnp.log(jnp.asarray(w))))
        assert abs(found.mean() - exact) < 4.5 * found.std() / math.sqrt(found.size), order

    # Order 3 cancels eleven digits at K = 256: the asymptotic series of the bias, exact to 1e-20 there, in fractions.
    def series(size: int) -> Fraction:
        terms = [Fraction((-1) ** n * math.factorial(n), (2 * size) ** (n + 1)) for n in range(16)]
        return -sum(terms, Fraction(0))

    assert float(series(64)) == pytest.approx(inverse_gaussian_bias(64), rel=1e-12)
    for order, slope in enumerate((0.997, 1.994, 2.992, 3.990)):
        left = []
        for size in (128, 256):
            parts = [
                Fraction((-1) ** k * (size - k) ** order, math.factorial(order - k) * math.factorial(k))
                * series(size - k)
                for k in range(order + 1)
            ]
            left.append(float(sum(parts)))
        assert math.log2(abs(left[0] / left[1])) == pytest.approx(slope, abs=1e-3)


@pytest.mark.parametrize("p_df, q_df", [(3.0, 6.0), (2.0, 10.0)])
def test_khat_of_a_student_under_a_lighter_student(p_df: float, q_df: float):
    # w ~ |z|^(q_df - p_df) and P(|z| > t) ~ t^-q_df, so that k = 1 - p_df / q_df. The index belongs to the far tail:
    # draws beyond the quantile 1e-7, where the power law holds. Mean of 16 estimates, each to .06.
    rng = np.random.default_rng(1)
    found = []
    for _ in range(16):
        z = stats.t.isf(1e-7 * rng.uniform(size=20_000), q_df)
        found.append(khat(stats.t.logpdf(z, p_df) - stats.t.logpdf(z, q_df)))
    assert np.mean(found) == pytest.approx(1 - p_df / q_df, abs=0.05)


def test_khat_of_a_student_under_a_gaussian_is_one():
    # P(w > x) ~ 1 / x up to logarithms: w has its mean, as every weight, and no moment above it.
    rng = np.random.default_rng(2)
    z = [stats.norm.isf(1e-12 * rng.uniform(size=20_000)) for _ in range(16)]
    assert np.mean([khat(stats.t.logpdf(x, 3.0) - stats.norm.logpdf(x)) for x in z]) == pytest.approx(1.0, abs=0.1)


def power_moment(v: float, n: float) -> float:
    """log E_q w^n for q = N(0, v), p = N(0, 1): n/2 log v - 1/2 log v - 1/2 log(n + (1 - n) / v)."""
    left = n + (1 - n) / v
    return math.inf if left <= 0 else 0.5 * n * math.log(v) - 0.5 * math.log(v) - 0.5 * math.log(left)


@pytest.mark.parametrize("v, n", [(0.8, 2.0), (0.8, 1.5), (1.5, 2.0), (1.5, -1.0), (0.8, 0.5), (0.6, 2.0)])
def test_power_moments_of_gaussian_weights(v: float, n: float):
    def integrand(z: float) -> float:
        log_w = stats.norm.logpdf(z) - stats.norm.logpdf(z, 0, math.sqrt(v))
        return math.exp(n * log_w + stats.norm.logpdf(z, 0, math.sqrt(v)))

    exact = math.log(integrate.quad(integrand, -40, 40, epsabs=0, epsrel=1e-12, limit=400)[0])
    assert power_moment(v, n) == pytest.approx(exact, abs=1e-9)
    assert math.isinf(power_moment(0.5, 2.0)) and math.isfinite(power_moment(0.51, 2.0))
    if n == 2.0 and v in (0.8, 1.5):  # E w^4 is finite: the estimate has an error
        z = np.random.default_rng(3).normal(0, math.sqrt(v), 400_000)
        log_w = -0.5 * z**2 + 0.5 * z**2 / v + 0.5 * math.log(v)
        with scope("float64"):
            found = float(objectives.CUBO(n=2.0, particles=len(z)).reduce(jnp.asarray(log_w)))
        spread = math.sqrt(math.expm1(power_moment(v, 4.0) - 2 * power_moment(v, 2.0)) / len(z))
        assert abs(found - exact / 2) < 4.5 * spread / 2


# q = N(0, v), p = N(0, 1): along p^b q^(1 - b) the variance is s(b) = 1 / (b + (1 - b) / v), and log w = c z^2 + const
# with c = (1/v - 1) / 2: all of thermodynamic integration in closed form.


def path_mean(v: float, beta: np.ndarray) -> np.ndarray:
    return 0.5 * math.log(v) + 0.5 * (1 / v - 1) / (beta + (1 - beta) / v)


def path_variance(v: float, beta: np.ndarray) -> np.ndarray:
    return 0.5 * ((1 / v - 1) / (beta + (1 - beta) / v)) ** 2


def test_annealing_with_exact_transitions():
    # One chain of T steps, each from its temperature: the bias is the left Riemann sum's, the variance a sum.
    v, steps = 0.8, 256
    j = path_mean(v, np.array(1.0)) - path_mean(v, np.array(0.0))
    assert j == pytest.approx(0.025, abs=1e-12)
    beta = np.arange(steps) / steps
    bias, variance = path_mean(v, beta).mean(), path_variance(v, beta).sum() / steps**2
    assert steps * bias == pytest.approx(-0.012496, abs=1e-6) and abs(steps * bias + j / 2) < 1e-5
    assert steps * variance == pytest.approx(0.024978, abs=1e-6) and abs(steps * variance - j) < 3e-5
    # TVO's sum over the same temperatures, its expectations from 40,001 quantiles of q, which cut its tails
    # off: 1e-4.
    z = math.sqrt(v) * stats.norm.ppf((np.arange(40_001) + 0.5) / 40_001)
    log_w = -0.5 * z**2 + 0.5 * z**2 / v + 0.5 * math.log(v)
    with scope("float64"):
        for count in (1, 4, 16):
            partition = tuple((np.arange(count + 1) / count).tolist())
            lower = float(objectives.TVO(partition, particles=len(z)).reduce(jnp.asarray(log_w)))
            upper = float(objectives.UpperTVO(partition, particles=len(z)).reduce(jnp.asarray(log_w)))
            grid = np.asarray(partition)
            assert lower == pytest.approx(path_mean(v, grid[:-1]).mean(), abs=1e-4)
            assert upper == pytest.approx(path_mean(v, grid[1:]).mean(), abs=1e-4)
            assert lower < 0.0 < upper


def test_the_thermodynamic_integral_is_the_log_evidence():
    nodes, weights = roots_legendre(40)
    for v in (0.3, 0.8, 2.5):
        assert abs(0.5 * weights @ path_mean(v, 0.5 * (nodes + 1))) < 1e-12
