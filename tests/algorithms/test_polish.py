"""The polish: it reaches the mode where quasi-Newton stops short, and names what is flat."""

from __future__ import annotations

import numpy as np
import pytest

from taut.algorithms._modes import find_modes
from taut.algorithms._polish import polish, restrained
from taut.algorithms._starts import explore


def badly_scaled_regression():
    """A height-and-earnings kind of regression: columns near 1, 66, 3e5 and 1e-3, log scale of the noise unknown."""
    rng = np.random.default_rng(3)
    n = 200
    x = np.column_stack([np.ones(n), rng.normal(66, 4, n), rng.normal(3e5, 1e5, n), rng.normal(0, 1e-3, n)])
    y = x @ np.array([-80, 1.3, 2e-4, 50.0]) + rng.normal(0, 5, n)

    def evaluate(z):
        log_s = z[:, 4]
        with np.errstate(over="ignore", invalid="ignore"):
            precision = np.exp(-2 * log_s)
            e = y - z[:, :4] @ x.T
            ss = (e**2).sum(1)
            log_p = -0.5 * ss * precision - n * log_s - log_s**2 / 200
            g = np.column_stack([e @ x * precision[:, None], ss * precision - n - log_s / 100])
        bad = ~(np.isfinite(log_p) & np.isfinite(g).all(1))
        return np.where(bad, -np.inf, log_p), np.where(bad[:, None], 0.0, g)

    return evaluate, x, y


@pytest.mark.parametrize("seed", range(3))
def test_it_reaches_the_mode_of_a_badly_scaled_regression(seed):
    evaluate, x, y = badly_scaled_regression()
    rng = np.random.default_rng(seed)
    found = explore(evaluate, 5, rng)
    modes = find_modes(evaluate, found, rng)
    best = modes.candidates[0].polished
    assert best.converged
    exact = np.linalg.lstsq(x, y, rcond=None)[0]
    sd = np.sqrt(np.diagonal(np.linalg.inv(x.T @ x))) * np.exp(best.mean[4])
    np.testing.assert_allclose((best.mean[:4] - exact) / sd, 0.0, atol=1e-3)
    sds = np.sqrt(np.diagonal(best.factor @ best.factor.T))
    np.testing.assert_allclose(sds[:4], sd, rtol=2e-2)  # the mode of log s couples to the coefficients at O(1/n)
    # BFGS said converged and was not: nats below the mode.
    assert found.converged.all()
    assert best.log_p - np.median(found.end_log_p) > 10
    assert found.gradients + modes.gradients < 2000
    assert modes.candidates[0].reached >= 2


def test_a_gaussian_takes_one_step_and_gives_its_evidence():
    rng = np.random.default_rng(0)
    d = 8
    a = rng.normal(size=(d, 2 * d))
    scale = np.logspace(-3, 3, d)
    precision = (a @ a.T / d) / np.outer(scale, scale)
    mean = scale * rng.normal(size=d)

    def evaluate(z):
        g = (mean - z) @ precision
        return -0.5 * np.einsum("ij,ij->i", mean - z, g), g

    got = polish(evaluate, mean + scale, np.diag(0.3 * scale))
    assert got.converged
    sd = np.sqrt(np.diagonal(np.linalg.inv(precision)))
    np.testing.assert_allclose((got.mean - mean) / sd, 0.0, atol=1e-7)
    np.testing.assert_allclose(got.factor.T @ precision @ got.factor, np.eye(d), atol=1e-7)
    exact = 0.5 * d * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    assert got.log_evidence == pytest.approx(exact, abs=1e-7)
    assert got.gradients <= 3 * (2 * d + 8) + 2


def test_a_saddle_is_left():
    """log p = -x^4 + 2 x^2 - y^2 has a saddle at 0, where plain Newton would stay, and modes at x = +-1."""

    def evaluate(z):
        x, y = z[:, 0], z[:, 1]
        return -(x**4) + 2 * x**2 - y**2, np.column_stack([-4 * x**3 + 4 * x, -2 * y])

    got = polish(evaluate, np.array([0.05, 0.4]), np.eye(2))
    assert got.converged
    np.testing.assert_allclose(np.abs(got.mean), [1.0, 0.0], atol=1e-3)
    np.testing.assert_allclose(np.diagonal(got.factor), [8**-0.5, 2**-0.5], rtol=2e-2)


def ridge_sum(z):
    q = z[:, 0] + z[:, 1]
    return -0.5 * q**2 - 0.5 * (z[:, 2] - 1) ** 2, np.column_stack([-q, -q, 1 - z[:, 2]])


def absent(z):
    return -0.5 * (z[:, 2] ** 2 + z[:, 0] ** 2), np.column_stack([-z[:, 0], np.zeros(len(z)), -z[:, 2]])


@pytest.mark.parametrize(
    ("evaluate", "direction"),
    [(ridge_sum, np.array([1.0, -1.0, 0.0]) / np.sqrt(2)), (absent, np.array([0.0, 1.0, 0.0]))],
)
def test_a_flat_direction_is_named(evaluate, direction):
    for seed in range(3):
        found = explore(evaluate, 3, np.random.default_rng(seed))
        got = polish(evaluate, found.ends[0], found.end_factors[0])
        assert not got.converged
        assert got.flat is not None
        assert abs(got.flat @ direction) == pytest.approx(1.0, abs=1e-6)


def test_wide_or_ridged_is_not_flat():
    """Standard deviations 1, 1e6, 1e-6; and a ridge 1e5 times longer than wide: proper posteriors both."""
    scale = np.array([1, 1e6, 1e-6])

    def wide(z):
        return -0.5 * ((z / scale) ** 2).sum(1), -z / scale**2

    def ridge(z):
        q = 1e5 * (z[:, 0] - z[:, 1])
        g = np.column_stack([-1e5 * q - (z[:, 0] - 1), 1e5 * q - (z[:, 1] - 1), 1 - z[:, 2]])
        return -0.5 * q**2 - 0.5 * ((z - 1) ** 2).sum(1), g

    found = explore(wide, 3, np.random.default_rng(0))
    got = polish(wide, found.ends[0], found.end_factors[0])
    assert got.converged and got.flat is None
    np.testing.assert_allclose(np.diagonal(got.factor), scale, rtol=1e-6)
    found = explore(ridge, 3, np.random.default_rng(0))
    got = polish(ridge, found.ends[0], found.end_factors[0])
    assert got.converged and got.flat is None
    # det of the precision [[k+1, -k], [-k, k+1]], k = 1e10, is 2k + 1
    assert got.log_evidence == pytest.approx(1.5 * np.log(2 * np.pi) - 0.5 * np.log(2e10 + 1), abs=1e-3)


def test_coordinates_past_the_factor_are_held():
    def evaluate(z):
        return -0.5 * ((z[:, 0] - z[:, 1]) ** 2) - z[:, 1], np.column_stack([z[:, 1] - z[:, 0], z[:, 0] - z[:, 1] - 1])

    got = polish(evaluate, np.array([0.0, 5.0]), np.eye(1))
    np.testing.assert_allclose(got.mean, [5.0, 5.0], atol=1e-6)


def test_straight_tails_are_not_flat():
    """|x| has no curvature: half a nat is lost at 0.5 on both sides. Half a line of it is flat on the other half."""

    def laplace(z):
        return -np.abs(z).sum(1), -np.sign(z)

    def half(z):
        return -np.maximum(z, 0).sum(1), -(z > 0).astype(float)

    both, _ = restrained(laplace, np.zeros(2), 0.0, np.eye(2), 1e-3)
    step = 10**0.25  # lengths are tried four to a decade
    assert np.all((both >= 0.5) & (both <= 0.5 * step))
    assert restrained(half, np.zeros(1), 0.0, np.eye(1), 1e-3)[0] == 0
    # Started off the kink, where every difference is zero.
    assert polish(laplace, np.array([0.3, -0.2]), 1e-3 * np.eye(2)).flat is None
