"""Batch and match: one step that is exact, a fixed point that is the right one, and stops that say how."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

import taut
from taut import dist
from taut.algorithms import BatchAndMatch, FixedDraws, Run
from taut.algorithms._batch_and_match import match
from taut.guides import FullRank


def target(dim, seed=0):
    """Mean and precision of a correlated Gaussian, scales from .1 to 10."""
    rng = np.random.default_rng(seed + dim)
    a, scale = rng.normal(size=(dim, dim + 3)), np.logspace(-1, 1, dim)
    return scale * rng.normal(size=dim), a @ a.T / dim / np.outer(scale, scale)


def gaussian(mean, precision):
    taut.sample("z", dist.MultivariateNormal(mean, precision_matrix=precision))
    taut.factor("constant", 0.0)


def schools(sigma, y=None):
    mu = taut.sample("mu", dist.Normal(0, 5))
    tau = taut.sample("tau", dist.HalfCauchy(5))
    with taut.plate("school", len(sigma)):
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, sigma), obs=y)


SCHOOLS = dict(sigma=[15.0, 10, 16, 11, 9, 11, 10, 18], y=[28.0, 8, -3, 7, -1, 1, 18, 12])


def classify(X, y=None):
    beta = taut.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with taut.plate("rows", len(X)):
        taut.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def solve(model, data, key=0, **settings):
    problem, algorithm = taut.Problem(model, data), BatchAndMatch(**settings)
    return problem, Run()(algorithm, problem, algorithm.guide(problem), key)


@pytest.mark.parametrize(("dim", "rows"), [(1, 2), (3, 4), (10, 11), (10, 30), (40, 41)])
def test_one_step_recovers_a_gaussian(dim, rows):
    """lambda = 1e12 and B >= D + 1 draws of any q: the scores are linear, and D + 1 points fix a linear map."""
    mean, precision = target(dim)
    rng = np.random.default_rng(1)
    start = np.linalg.cholesky(np.eye(dim) + 0.1)
    z = rng.normal(size=dim) + rng.normal(size=(rows, dim)) @ start.T
    found, factor = match(np.zeros(dim), start, z, (mean - z) @ precision, 1e12)
    sd = np.sqrt(np.diagonal(np.linalg.inv(precision)))
    np.testing.assert_allclose((found - mean) / sd, 0, atol=1e-6)
    np.testing.assert_allclose(factor.T @ precision @ factor, np.eye(dim), atol=1e-5)


def test_too_few_draws_do_not():
    mean, precision = target(10)
    z = np.random.default_rng(1).normal(size=(10, 10))
    _, factor = match(np.zeros(10), np.eye(10), z, (mean - z) @ precision, 1e12)
    assert np.abs(factor.T @ precision @ factor - np.eye(10)).max() > 0.1


def test_the_symmetric_form_is_the_published_one():
    """Against the paper's Sigma' = 2 V (I + (I + 4 U V)^(1/2))^-1, with SciPy's matrix square root."""
    rng = np.random.default_rng(0)
    d, rows, rate = 4, 7, 2.5
    mean, factor = rng.normal(size=d), np.linalg.cholesky(np.eye(d) + 0.3)
    z = mean + rng.normal(size=(rows, d)) @ factor.T
    g = rng.normal(size=(rows, d)) - z
    zb, gb, share = z.mean(0), g.mean(0), rate / (1 + rate)
    u = rate * np.cov(g.T, bias=True) + share * np.outer(gb, gb)
    v = factor @ factor.T + rate * np.cov(z.T, bias=True) + share * np.outer(mean - zb, mean - zb)
    root = np.real(linalg.sqrtm(np.eye(d) + 4 * u @ v))
    cov = 2 * v @ np.linalg.inv(np.eye(d) + root)
    found, new = match(mean, factor, z, g, rate)
    np.testing.assert_allclose(new @ new.T, cov, atol=1e-12)
    np.testing.assert_allclose(found, mean / (1 + rate) + share * (cov @ gb + zb), atol=1e-12)


def test_the_update_solves_its_quadratic():
    """Sigma' U Sigma' + Sigma' = V: the stationarity of the matched divergence."""
    rng = np.random.default_rng(3)
    z, g = rng.normal(size=(9, 3)), rng.normal(size=(9, 3))
    mean, factor, rate = np.zeros(3), np.eye(3), 4.0
    zb, gb, share = z.mean(0), g.mean(0), rate / (1 + rate)
    u = rate * np.cov(g.T, bias=True) + share * np.outer(gb, gb)
    v = np.eye(3) + rate * np.cov(z.T, bias=True) + share * np.outer(zb, zb)
    _, new = match(mean, factor, z, g, rate)
    cov = new @ new.T
    np.testing.assert_allclose(cov @ u @ cov + cov, v, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 5, 30])
def test_exact_on_a_gaussian(dim):
    """The default schedule contracts the error by 1 / (1 + B D / t) a step; the run ends on its first test."""
    mean, precision = target(dim)
    _, solution = solve(gaussian, dict(mean=mean, precision=precision))
    factor = FullRank.factor(solution.params)
    sd = np.sqrt(np.diagonal(np.linalg.inv(precision)))
    assert solution.status == "converged"
    assert solution.modes == (1, 8, 8)
    np.testing.assert_allclose((solution.params["loc"] - mean) / sd, 0, atol=1e-6)
    np.testing.assert_allclose(factor.T @ precision @ factor, np.eye(dim), atol=1e-6)


def test_a_constant_rate_needs_one_stage():
    """With independent draws too: 11 of them in 10 dimensions."""
    mean, precision = target(10)
    _, solution = solve(gaussian, dict(mean=mean, precision=precision), rate=1e12, batch=11)
    factor = FullRank.factor(solution.params)
    assert solution.status == "converged"
    np.testing.assert_allclose(factor.T @ precision @ factor, np.eye(10), atol=1e-5)


def test_as_good_as_the_fixed_draw_elbo_on_a_logistic_regression():
    """300 rows, 20 columns: the ELBO of the average reaches that of the fixed-draw optimum. Both estimates come from
    the same 16,000 draws of the base normal and differ by less than .01 from one key to another."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 20))
    y = (rng.uniform(size=300) < 1 / (1 + np.exp(-X @ rng.normal(size=20)))).astype(int)
    matched = taut.fit(classify, dict(X=X, y=y), algorithm=BatchAndMatch(), verify=False)
    optimum = taut.fit(classify, dict(X=X, y=y), algorithm=FixedDraws(levels=3), verify=False)
    assert matched.status == "converged"
    assert matched.elbo > optimum.elbo - 0.02


def test_eight_schools():
    """The best ELBO of a Gaussian in non-centred coordinates is -31.533; the matched one is within .1 of it."""
    fit = taut.fit(schools, SCHOOLS, algorithm=BatchAndMatch(), verify=False)
    assert fit.status in ("converged", "plateaued")
    assert -31.64 < fit.elbo < -31.5
    assert fit["mu"].values.std() == pytest.approx(3.3177, rel=0.1)


def test_the_budget_is_named():
    _, solution = solve(schools, SCHOOLS, steps=8)
    assert solution.status == "budget"
    assert np.all(np.isfinite(solution.params["loc"]))


def started_at(model, data, mean, factor, key=0, **settings):
    """A run that begins at a Gaussian given, after the search for a mode."""
    problem, algorithm = taut.Problem(model, data), BatchAndMatch(starts=2, **settings)
    guide = algorithm.guide(problem)
    state = algorithm.init(problem, guide, key)
    while state.search.modes is None:
        state, _ = algorithm.step(problem, guide, state)
    state = state._replace(mean=mean, factor=factor)
    while (status := algorithm.terminate(problem, guide, state)) is None:
        state, _ = algorithm.step(problem, guide, state)
    return state.step, algorithm.finish(problem, guide, state, status)


def divergence(solution, mean, precision):
    """KL(q || p) of two Gaussians, nats."""
    factor = FullRank.factor(solution.params)
    m, gap = factor.T @ precision @ factor, solution.params["loc"] - mean
    return 0.5 * (np.trace(m) - len(m) - np.linalg.slogdet(m)[1] + gap @ precision @ gap)


def test_a_converged_start_ends_on_its_first_comparison():
    """At the exact Gaussian the log-weights are constant, and so is every average: two stages of 6 steps."""
    mean, precision = target(10)
    factor = np.linalg.cholesky(np.linalg.inv(precision))
    steps, solution = started_at(gaussian, dict(mean=mean, precision=precision), mean, factor, rate=0.01, batch=12)
    assert (steps, solution.status) == (12, "converged")
    assert divergence(solution, mean, precision) < 1e-9


@pytest.mark.parametrize("rate", [None, 0.01])
@pytest.mark.parametrize("key", range(3))
def test_slow_progress_is_not_called_convergence(key, rate):
    """A start 20 sd away with a tenth of the spread, where a step moves the mean by less than one sd of a narrow q:
    every stage gains more than its noise, so the run goes on until its budget ends."""
    mean, precision = target(10)
    sd = np.sqrt(np.diagonal(np.linalg.inv(precision)))
    steps, solution = started_at(
        gaussian, dict(mean=mean, precision=precision), mean + 20 * sd, np.diag(0.1 * sd), key, rate=rate, steps=60
    )
    assert divergence(solution, mean, precision) > 1.0
    assert (steps, solution.status) == (60, "budget")


def test_what_it_does_not_serve():
    with pytest.raises(taut.TautError, match="BatchAndMatch with MeanField"):
        taut.fit(schools, SCHOOLS, algorithm=BatchAndMatch(), guide=taut.guides.MeanField())
