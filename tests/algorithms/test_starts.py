"""Starts: modes found, zero-density starts redrawn or reported, equal modes merged, mixtures right."""

from __future__ import annotations

import numpy as np
import pytest

from taut.algorithms._modes import distinct, find_modes, same_mode
from taut.algorithms._starts import explore, lower_factor
from taut.guides._mixture import mixture, mixture_draws, mixture_log_density


def normal_log_density(z, mean, cov):
    """By the textbook: solve and determinant of the covariance itself."""
    r = z - mean
    quadratic = np.einsum("ij,ji->i", r, np.linalg.solve(cov, r.T))
    return -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * cov)[1])


def gaussian(dim, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(dim, 2 * dim))
    precision = a @ a.T / dim
    mean = rng.normal(size=dim)

    def evaluate(z):
        g = (mean - z) @ precision
        return -0.5 * np.einsum("ij,ij->i", mean - z, g), g

    return evaluate, mean, precision


def two_modes(z):
    """0.3 N(3, I/4) + 0.7 N(-3, I/4)."""
    a, b = (np.log(w) - 2 * ((z - c) ** 2).sum(1) for w, c in ((0.3, 3.0), (0.7, -3.0)))
    log_p = np.logaddexp(a, b)
    share = np.exp(a - log_p)[:, None]
    return log_p + z.shape[1] * np.log(2 / np.sqrt(2 * np.pi)), -4 * (share * (z - 3) + (1 - share) * (z + 3))


@pytest.mark.parametrize(("dim", "dense_limit"), [(10, 150), (10, 5), (60, 20)])
def test_dense_and_limited_memory_climbs_reach_the_mode(dim, dense_limit):
    evaluate, mean, precision = gaussian(dim)
    found = explore(evaluate, dim, np.random.default_rng(0), dense_limit=dense_limit)
    assert found.converged.all()
    assert found.never_finite == 0
    error = (found.ends - mean) @ np.linalg.cholesky(precision)
    assert np.linalg.norm(error, axis=1).max() < 0.1  # decrement 1e-4 nats, measured by an inexact Hessian
    log_z = 0.5 * dim * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    assert np.all(found.elbos < log_z + 1e-9)
    assert found.elbos.max() > log_z - 0.3 * dim


def test_one_call_per_tick_carries_all_climbs():
    evaluate, *_ = gaussian(10)
    calls = []

    def counting(z):
        calls.append(len(z))
        return evaluate(z)

    found = explore(counting, 10, np.random.default_rng(0))
    assert sum(calls) == found.gradients < 1000  # the 840 of the prototype's median, for 8 starts and their scoring
    assert len(calls) < 2 * found.iterations.max() + 10


def test_a_funnel_is_left_on_the_way_and_not_at_its_bottom():
    """log p = v-funnel with 8 leaves: no mode. The best ELBO on the path is far from where the climb ran to."""

    def funnel(z):
        v, x = z[:, 0], z[:, 1:]
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(-v)
            q = (x**2).sum(1)
            log_p = -(v**2) / 1800 - 0.5 * e * q - 4 * v
            g = np.concatenate([(-v / 900 + 0.5 * e * q - 4)[:, None], -x * e[:, None]], axis=1)
        bad = ~(np.isfinite(log_p) & np.isfinite(g).all(1))
        return np.where(bad, -np.inf, log_p), np.where(bad[:, None], 0.0, g)

    rng = np.random.default_rng(0)
    found = explore(funnel, 9, rng)
    assert np.all(found.ends[:, 0] < found.points[:, 0] + 1e-9)
    best = find_modes(funnel, found, rng).candidates[0]
    assert best.elbo >= found.elbos.max() - 3.0  # scored again on other draws


def test_zero_density_starts_are_drawn_again_nearer_the_origin():
    def ball(z):
        inside = (z**2).sum(1) < 0.25
        return np.where(inside, -0.5 * (z**2).sum(1), -np.inf), np.where(inside[:, None], -z, 0.0)

    found = explore(ball, 4, np.random.default_rng(0))
    assert found.never_finite == 0
    assert np.abs(found.ends).max() < 0.02


def test_impossible_densities_are_counted():
    found = explore(lambda z: (np.full(len(z), -np.inf), np.zeros_like(z)), 3, np.random.default_rng(0))
    assert found.never_finite == 8
    assert np.all(found.elbos == -np.inf)
    assert np.abs(found.points).max() <= 2 * 0.5**8  # the last points tried
    evaluate, *_ = gaussian(3)
    assert find_modes(evaluate, found, np.random.default_rng(0)).candidates == []


def test_given_starting_points_are_used():
    found = explore(two_modes, 2, np.random.default_rng(0), given=np.array([[2.0, 2.5], [3.5, 3.0], [2.9, 2.0]]))
    np.testing.assert_allclose(found.ends, 3.0, atol=0.02)


def test_both_modes_are_found_and_weighed():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        modes = find_modes(two_modes, explore(two_modes, 2, rng), rng)
        assert len(modes.candidates) == 2
        assert modes.candidates[0].reached + modes.candidates[1].reached == 8
        assert {round(float(c.point[0])) for c in modes.candidates} == {3, -3}
        evidence = [c.polished.log_evidence for c in modes.candidates]
        mix = mixture([c.point for c in modes.candidates], [c.factor for c in modes.candidates], evidence)
        # The modes are 24 standard deviations apart: Laplace is exact to the size of exp(-36).
        np.testing.assert_allclose(np.sort(mix.weights), [0.3, 0.7], atol=1e-3)


def test_one_mode_counts_every_start_that_reached_it():
    evaluate, mean, _ = gaussian(6)
    rng = np.random.default_rng(0)
    modes = find_modes(evaluate, explore(evaluate, 6, rng), rng)
    assert [c.reached for c in modes.candidates] == [8]
    np.testing.assert_allclose(modes.candidates[0].polished.mean, mean, atol=1e-6)


def test_distinct_keeps_the_best_of_each_mode():
    one = np.eye(2)
    means = [np.zeros(2), np.full(2, 20.0), np.full(2, 0.5), np.full(2, 19.5)]
    assert distinct(means, [one] * 4, [1.0, 0.0, 2.0, -np.inf]) == [2, 1]
    # A tiny Gaussian inside a wide one is the same mode: one direction suffices.
    assert same_mode(np.zeros(2), 100 * one, np.full(2, 50.0), 0.01 * one)


def test_mixture_density_and_stratified_draws():
    rng = np.random.default_rng(0)
    factors = [np.array([[1.0, 0.0], [0.5, 2.0]]), 0.3 * np.eye(2)]
    mix = mixture([np.zeros(2), np.full(2, 40.0)], factors, np.log([0.25, 0.75]) - 800.0)
    z, component = mixture_draws(401, mix, rng)
    assert np.bincount(component).tolist() in ([100, 301], [101, 300])
    expected = np.logaddexp(
        np.log(0.25) + normal_log_density(z, np.zeros(2), factors[0] @ factors[0].T),
        np.log(0.75) + normal_log_density(z, np.full(2, 40.0), 0.09 * np.eye(2)),
    )
    np.testing.assert_allclose(mixture_log_density(z, mix), expected, rtol=1e-10)
    counts = np.array([np.bincount(mixture_draws(10, mix, rng)[1], minlength=2)[0] for _ in range(2000)])
    assert set(counts) == {2, 3}
    assert abs(counts.mean() - 2.5) < 4 * 0.5 / np.sqrt(2000)


def test_lower_factor_survives_rounding():
    v = np.array([1.0, 1e-8, 1e8])
    cov = np.outer(v, v) * (1 - 1e-17)
    c = lower_factor(cov)
    assert np.all(np.diagonal(c) > 0)
    np.testing.assert_allclose(c @ c.T, cov, rtol=1e-5)


def test_point_estimated_coordinates_have_no_spread_and_the_rest_is_conditional():
    evaluate, _, precision = gaussian(6)
    found = explore(evaluate, 6, np.random.default_rng(1), params=2)
    assert found.factors.shape == (8, 4, 4)
    exact = np.sqrt(np.diagonal(np.linalg.inv(precision[:4, :4])))
    sds = np.sqrt(np.einsum("nij,nij->ni", found.end_factors, found.end_factors))
    assert np.median(np.abs(np.log(sds / exact))) < 0.3  # BFGS curvature, not exact


def test_a_factor_is_found_where_rounding_left_no_covariance():
    """Climbs into an unbounded density end with matrices that are not positive, or not finite, and must be scored."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    fine = root @ root.T
    np.testing.assert_allclose(lower_factor(fine) @ lower_factor(fine).T, fine, rtol=1e-12)
    broken = fine.copy()
    broken[0, 0] = -0.1
    for cov in (broken, -fine, np.full((4, 4), np.inf), np.zeros((4, 4))):
        factor = lower_factor(cov)
        assert np.all(np.isfinite(factor))
        assert np.all(np.diagonal(factor) >= 0)
