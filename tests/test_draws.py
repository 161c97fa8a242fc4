"""Base draws: exact moments where promised, exact margins where promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from taut._draws import (
    gaussian_log_density,
    haar_rows,
    orthogonal_antithetic,
    paired_standard_error,
    pool,
)


def normal_log_density(z, mean, cov):
    """By the textbook: solve and determinant of the covariance itself."""
    r = z - mean
    quadratic = np.einsum("ij,ji->i", r, np.linalg.solve(cov, r.T))
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * cov)[1])


@pytest.mark.parametrize(("rows", "dim"), [(20, 10), (64, 10), (64, 7), (200, 35), (64, 1), (6, 3)])
@pytest.mark.parametrize("radii", ["constant", "chi", "stratified"])
def test_first_two_moments_are_exact(rows, dim, radii):
    u = orthogonal_antithetic(rows, dim, np.random.default_rng(1), radii=radii)
    assert u.shape == (rows, dim)
    np.testing.assert_allclose(u.mean(0), 0.0, atol=1e-14)
    np.testing.assert_allclose(u.T @ u / rows, np.eye(dim), atol=1e-12)  # rounding of a dim x dim solve
    np.testing.assert_array_equal(u[rows // 2 :], -u[: rows // 2])


def test_fewer_draws_than_directions_have_unit_column_moments():
    u = orthogonal_antithetic(8, 30, np.random.default_rng(0))
    np.testing.assert_allclose(np.mean(u**2, axis=0), 1.0, rtol=1e-13)


def test_rows_are_orthonormal_within_blocks():
    q = haar_rows(25, 10, np.random.default_rng(2))
    np.testing.assert_allclose(q[:10] @ q[:10].T, np.eye(10), atol=1e-13)
    np.testing.assert_allclose(q[20:] @ q[20:].T, np.eye(5), atol=1e-13)


def test_haar_blocks_have_no_preferred_sign():
    """A QR factor without its signs fixed has a diagonal of one sign; Haar's is symmetric about zero."""
    rng = np.random.default_rng(3)
    diagonal = np.array([haar_rows(3, 3, rng)[0, 0] for _ in range(2000)])
    assert abs(np.mean(diagonal > 0) - 0.5) < 4 * 0.5 / np.sqrt(2000)


@pytest.mark.parametrize("dim", [1, 3, 12])
def test_every_row_of_the_pool_is_standard_normal(dim):
    rng = np.random.default_rng(4)
    rows = np.stack([pool(5, dim, rng) for _ in range(3000)])  # odd: the last partner is cut off
    assert rows.shape == (3000, 5, dim)
    # Kolmogorov-Smirnov on one row across independent pools; 1e-4 in each of 6 tests.
    for row in (0, 4):
        assert stats.kstest(rows[:, row, 0], "norm").pvalue > 1e-4
        assert stats.kstest((rows[:, row] ** 2).sum(1), "chi2", args=(dim,)).pvalue > 1e-4


def test_stratified_radii_nail_the_fourth_moment():
    """E|u|^4 = D (D + 2): stratification removes nearly all of its Monte Carlo error, 0.011 relative for chi here."""
    d, m = 10, 4000
    u = orthogonal_antithetic(m, d, np.random.default_rng(5), radii="stratified")
    fourth = np.mean((u**2).sum(1) ** 2)
    assert abs(fourth / (d * (d + 2)) - 1) < 0.01


def test_gaussian_log_density_matches_the_textbook():
    rng = np.random.default_rng(6)
    c = np.tril(rng.normal(size=(4, 4))) + 3 * np.eye(4)
    u = rng.normal(size=(7, 4))
    expected = normal_log_density(1 + u @ c.T, np.ones(4), c @ c.T)
    np.testing.assert_allclose(gaussian_log_density(u, np.log(np.diagonal(c)).sum()), expected, rtol=1e-12)


def test_standard_error_treats_antithetic_partners_as_one():
    rng = np.random.default_rng(7)
    a = rng.normal(size=500)
    assert paired_standard_error(np.concatenate([a, -a])) == pytest.approx(0.0, abs=1e-15)
    assert paired_standard_error(np.concatenate([a, a])) == pytest.approx(a.std(ddof=1) / np.sqrt(500))
    assert paired_standard_error(np.array([0.0, 1.0, -np.inf, 2.0])) == np.inf
