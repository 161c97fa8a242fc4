"""Closed-form centring: the data's share of the precision, and the parametrisation that decouples."""

from __future__ import annotations

import numpy as np
import pytest

from taut.algorithms._centring import matched_gaussian, optimal_centring, recentre


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("s", "noise"), [(0.2, 1.0), (1.0, 1.0), (5.0, 0.7)])
def test_the_answer_does_not_depend_on_where_it_is_asked(lam, s, noise):
    """theta ~ N(m, s^2), y ~ N(theta, noise^2), m and s known: the data's share is s^2 / (s^2 + noise^2), any lam."""
    # u = lam m + s^(lam - 1) (theta - m): posterior sd of u is that of theta times s^(lam - 1)
    sd_theta = (s**-2 + noise**-2) ** -0.5
    factor = np.array([[sd_theta * s ** (lam - 1.0)]])
    got = optimal_centring(factor, np.array([0]), np.array([lam]), np.log([s]))
    assert got[0] == pytest.approx(s**2 / (s**2 + noise**2), abs=1e-12)


def test_it_decouples_a_hierarchy():
    """m ~ N(0, 1), theta_j ~ N(m, 1), y_j ~ N(theta_j, v_j): at the new lam every Cov(u_j, m | y) is zero."""
    v = np.array([0.1, 1.0, 10.0])
    prior = np.block([[np.ones((1, 1)), np.zeros((1, 3))], [np.zeros((3, 1)), np.eye(3)]])
    design = np.column_stack([np.ones(3), np.eye(3)])  # theta = m + u at lam = 0
    precision = np.linalg.inv(prior) + design.T @ np.diag(1 / v) @ design
    cov = np.linalg.inv(precision)
    lam = optimal_centring(np.linalg.cholesky(cov), np.array([1, 2, 3]), np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(lam, 1 / (1 + v), atol=1e-12)
    change = np.eye(4)
    change[1:, 0] = lam  # u' = u + lam m for s = 1
    np.testing.assert_allclose((change @ cov @ change.T)[1:, 0], 0.0, atol=1e-12)


def test_a_diagonal_fit_gives_the_same_share():
    got = optimal_centring(np.array([2.0, 0.5]), np.array([1]), np.zeros(1), np.zeros(1))
    assert got[0] == pytest.approx(0.75)


def test_less_precision_than_the_prior_is_clipped():
    assert optimal_centring(np.array([[3.0]]), np.array([0]), np.zeros(1), np.zeros(1))[0] == 0.0


def test_recentring_keeps_theta():
    rng = np.random.default_rng(0)
    u, m, log_s = rng.normal(size=(3, 50))
    lam, new = 0.2, 0.9

    def theta(u, lam):
        return m + np.exp((1 - lam) * log_s) * (u - lam * m)

    moved = recentre(u, m, log_s, np.array(lam), np.array(new))
    np.testing.assert_allclose(theta(moved, new), theta(u, lam), rtol=1e-12)
    np.testing.assert_allclose(recentre(moved, m, log_s, np.array(new), np.array(lam)), u, rtol=1e-11)


def test_matched_gaussian_has_the_moments_of_the_rows():
    z = np.random.default_rng(0).normal(size=(40, 3)) @ np.diag([1.0, 1e3, 1e-3]) + 5
    mean, factor = matched_gaussian(z)
    np.testing.assert_allclose(mean, z.mean(0))
    cov = np.cov(z.T, bias=True)
    scale = np.sqrt(np.outer(np.diagonal(cov), np.diagonal(cov)))
    np.testing.assert_allclose(factor @ factor.T / scale, cov / scale, atol=1e-12)
    assert np.all(np.triu(factor, 1) == 0) and np.all(np.diagonal(factor) > 0)
