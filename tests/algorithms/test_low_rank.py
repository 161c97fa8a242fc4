"""Many latents without a matrix: exact where the posterior is of the family, and honest where it is not."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

import taut
from taut import dist
from taut._draws import orthogonal_antithetic
from taut.algorithms import Auto, LowRankDraws, Run, Solution, anneal
from taut.algorithms._low_rank_curvature import far_eigenpairs, probed_diagonal
from taut.algorithms._low_rank_shape import Shape, round_shape, with_diagonal, with_directions
from taut.guides import FullRank, LowRank, MeanField

NONE = np.zeros(0)


def solve(model: Any, data: dict[str, Any], guide: Any, **settings: Any) -> tuple[taut.Problem, Solution]:
    problem = taut.Problem(model, data)
    return problem, Run()(LowRankDraws(**settings), problem, guide, 0)


def moments(solution: Solution) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, sds and log determinant of the covariance."""
    factor = LowRank.factor(solution.params)
    return solution.params["loc"], np.linalg.norm(factor, axis=1), 2 * float(np.linalg.slogdet(factor)[1])


def test_a_posterior_with_two_directions_is_found_exactly():
    """600 standard normals seen through two combinations: precision I + w w' / s^2 + v v' / t^2, evidence in closed
    form."""
    d, rng = 600, np.random.default_rng(0)
    w = rng.normal(size=(2, d)) / np.sqrt(d)
    noise, y = np.array([0.1, 0.5]), np.array([1.0, -2.0])

    def model(w, noise, y):
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([d]).to_event(1))
        with taut.plate("seen", 2):
            taut.sample("y", dist.Normal(w @ x, noise), obs=y)

    problem, solution = solve(model, dict(w=w, noise=noise, y=y), LowRank(20))
    outer = w @ w.T + np.diag(noise**2)
    gain = np.linalg.solve(outer, w).T
    mean, covariance = gain @ y, np.eye(d) - gain @ w
    found, sd, log_det = moments(solution)
    assert solution.status == "converged"
    # A round that brings less than 0.02 nats is the last: the divergence that is left is below that.
    assert 0.5 * (found - mean) @ np.linalg.solve(covariance, found - mean) < 2e-3
    factor = LowRank.factor(solution.params)
    spread = 0.5 * (np.sum(factor * np.linalg.solve(covariance, factor)) - d)
    assert spread + 0.5 * (np.linalg.slogdet(covariance)[1] - log_det) < 0.03
    np.testing.assert_allclose(sd, np.sqrt(np.diagonal(covariance)), rtol=0.05)
    exact = stats.multivariate_normal(np.zeros(2), outer).logpdf(y)
    assert exact - 0.02 - 3 * solution.history[-1].se < solution.history[-1].elbo < exact + 3 * solution.history[-1].se
    assert solution.gap is not None and abs(solution.gap[0]) < 0.02
    assert solution.modes == (1, 8, 8)
    assert problem.kernel().gradients < 60_000


def test_independent_latents_need_no_direction():
    """Log-gamma margins of unequal shape, whose mean-field optimum is known."""
    shapes = np.linspace(5.0, 50.0, 520)

    def model(a):
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (520,), ()).to_event(1))
        taut.factor("density", jnp.sum(a * x - jnp.exp(x) - a * jnp.log(a)))

    _, solution = solve(model, dict(a=shapes), LowRank(20))
    assert solution.params["directions"].shape == (520, 1)
    np.testing.assert_allclose(np.exp(solution.params["log_stretch"]), 1.0)
    # Stationarity of the exact ELBO of N(m, s^2) for a x - e^x: a = exp(m + s^2 / 2) and s^2 = 1 / a.
    found, sd, _ = moments(solution)
    np.testing.assert_allclose(sd, shapes**-0.5, rtol=0.05)
    np.testing.assert_allclose((found - np.log(shapes) + 0.5 / shapes) * np.sqrt(shapes), 0.0, atol=0.05)
    # 512 draws and probes: in the mean over all latents a tenth of that.
    np.testing.assert_allclose(np.mean(sd * np.sqrt(shapes)), 1.0, atol=0.01)


def test_a_hierarchy_of_many_groups_against_quadrature():
    """600 groups, theta integrated out: mean and sd of mu and log tau, and the evidence, on a grid."""
    rng, j = np.random.default_rng(1), 600
    sigma = np.exp(0.8 * rng.normal(size=j) - 0.3)
    y = 1.0 + 0.7 * rng.normal(size=j) + sigma * rng.normal(size=j)

    def model(sigma, y):
        mu = taut.sample("mu", dist.Normal(0.0, 5.0))
        tau = taut.sample("tau", dist.HalfNormal(5.0))
        with taut.plate("group", len(sigma)):
            theta = taut.sample("theta", dist.Normal(mu, tau))
            taut.sample("y", dist.Normal(theta, sigma), obs=y)

    log_tau, mu = np.meshgrid(np.linspace(-1.2, 0.5, 201), np.linspace(0.6, 1.4, 201), indexing="ij")
    tau = np.exp(log_tau)
    prior = stats.norm.logpdf(mu, 0, 5) + stats.halfnorm.logpdf(tau, 0, 5) + log_tau
    sd = np.sqrt(tau[..., None] ** 2 + sigma**2)
    log_p = prior + stats.norm.logpdf(y, mu[..., None], sd).sum(-1)
    weights = np.exp(log_p - log_p.max())
    evidence = log_p.max() + np.log(weights.sum() * (1.7 / 200) * (0.8 / 200))
    weights /= weights.sum()

    fit = taut.fit(model, dict(sigma=sigma, y=y), verify=False)
    assert fit.guide == "LowRank" and fit.status == "converged"
    for name, grid, values in (("mu", mu, fit["mu"].values), ("tau", log_tau, np.log(fit["tau"].values))):
        mean = (weights * grid).sum()
        spread = np.sqrt((weights * grid**2).sum() - mean**2)
        assert abs(values.mean() - mean) < 0.05 * spread, name
        np.testing.assert_allclose(values.std(), spread, rtol=0.03)
    np.testing.assert_allclose(fit.log_evidence, evidence, atol=0.01)
    assert fit.kl < 0.05
    # Neither parametrisation is right for all of them: each group has the centredness its own datum asks for.
    assert fit.solution is not None and isinstance(fit.solution.guide, LowRank)
    lam = np.asarray(fit.solution.guide.centredness)[2:]
    assert np.corrcoef(lam, -np.log(sigma))[0, 1] > 0.9


def test_the_models_own_parameters_move_with_the_mean():
    """x_i ~ N(theta, 1), y_i ~ N(x_i, 1): the ELBO is the log marginal N(y; theta, 2), highest at the mean of y."""
    y = np.random.default_rng(3).normal(2.0, 1.5, 550)

    def model(y):
        theta = taut.param("theta", 0.0)
        with taut.plate("rows", len(y)):
            x = taut.sample("x", dist.Normal(theta, 1.0))
            taut.sample("y", dist.Normal(x, 1.0), obs=y)

    _, solution = solve(model, dict(y=y), LowRank(5, centredness=(1.0,) * 550))
    np.testing.assert_allclose(solution.model_params, [y.mean()], atol=2e-3)
    np.testing.assert_allclose(solution.history[-1].elbo, stats.norm.logpdf(y, y.mean(), np.sqrt(2)).sum(), atol=0.01)


def test_what_is_left_over_shows_in_fresh_draws():
    """An AR(1) of 600 latents is not of low rank: the ELBO stays below the evidence by what the exact Gaussian of the
    same scales and directions loses, and the reported one is that of the guide returned."""
    d, rho = 600, 0.8

    def model(rho):
        z = taut.sample("z", dist.ImproperUniform(dist.constraints.real, (d,), ()).to_event(1))
        taut.factor("chain", -0.5 * z[0] ** 2 - 0.5 * jnp.sum((z[1:] - rho * z[:-1]) ** 2) / (1 - rho**2))

    _, solution = solve(model, dict(rho=np.array(rho)), LowRank(30))
    precision = np.diag(np.r_[1, np.full(d - 2, 1 + rho**2), 1]) - rho * (np.eye(d, k=1) + np.eye(d, k=-1))
    precision /= 1 - rho**2
    factor = LowRank.factor(solution.params)
    # The exact ELBO of N(m, CC') for a Gaussian target.
    mean = solution.params["loc"]
    exact = -0.5 * np.sum(factor * (precision @ factor)) - 0.5 * mean @ precision @ mean
    exact += np.linalg.slogdet(factor)[1] + 0.5 * d * (1 + np.log(2 * np.pi))
    last = solution.history[-1]
    assert abs(last.elbo - exact) < 4 * last.se
    assert solution.gap is not None and abs(solution.gap[0]) < 0.1 + 4 * solution.gap[1]
    # Twice the directions bring more, the mean field far less.
    _, richer = solve(model, dict(rho=np.array(rho)), LowRank(60))
    diagonal = -0.5 * np.log(np.diagonal(precision)).sum() + 0.5 * d * np.log(2 * np.pi)
    assert richer.history[-1].elbo > last.elbo > diagonal + 10


def test_two_far_modes_are_said():
    def model(y):
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([520]).to_event(1))
        away = jnp.logaddexp(-2 * (x[0] - 30) ** 2, -2 * (x[0] + 30) ** 2) + 0.5 * x[0] ** 2
        taut.factor("modes", away)
        taut.sample("y", dist.Normal(x[1], 1.0), obs=y)

    _, solution = solve(model, dict(y=0.3), LowRank(5))
    assert solution.modes is not None and solution.modes[0] == 2


def test_a_step_is_a_function_of_its_state():
    def model(y):
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([30]).to_event(1))
        taut.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    problem, guide, algorithm = taut.Problem(model, dict(y=1.0)), LowRank(3), LowRankDraws()
    state, compiled = algorithm.init(problem, guide, 0), None
    while algorithm.terminate(problem, guide, state) is None:
        again, _ = algorithm.step(problem, guide, state)
        state, _ = algorithm.step(problem, guide, state)
        if state.fitted is not None and again.fitted is not None:
            np.testing.assert_array_equal(state.fitted.shape.mean, again.fitted.shape.mean)
            np.testing.assert_array_equal(state.fitted.shape.basis, again.fitted.shape.basis)
        compiled = compiled or problem.kernel().compilations
    assert problem.kernel().compilations == compiled  # the first call compiled all there is


def test_probes_and_lanczos_against_the_whole_hessian():
    """A Gaussian of 80 dimensions, where A is the precision in units of the scales: the far eigenpairs are those of
    LAPACK, the probed diagonal is within four of its standard errors, sqrt(sum_k A_jk^2 / M)."""
    d, rng = 80, np.random.default_rng(5)
    w = rng.normal(size=(d, 3)) / np.sqrt(d)
    precision = np.diag(np.linspace(0.9, 1.1, d)) + (w * np.array([30.0, 10.0, -0.6])) @ w.T
    scale = np.exp(0.5 * rng.normal(size=d))
    inner = precision / np.outer(scale, scale)

    def evaluate(z):
        return -0.5 * np.einsum("ij,jk,ik->i", z, inner, z), -z @ inner

    shape = round_shape(rng.normal(size=d), scale)
    value, vector = np.linalg.eigh(precision)
    found = far_eigenpairs(evaluate, shape.out(orthogonal_antithetic(16, d, rng)), scale, NONE, rng, most=3)
    np.testing.assert_allclose(np.sort(found.value), value[[0, -2, -1]], rtol=1e-5)
    order = np.argsort(found.value)
    overlap = np.abs(np.sum(found.vector[:, order] * vector[:, [0, -2, -1]], axis=0))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-4)
    u = orthogonal_antithetic(400, d, rng)
    error = np.sqrt((np.sum(precision**2, axis=1) - np.diagonal(precision) ** 2) / 400)
    probed, used = probed_diagonal(evaluate, shape, NONE, u, rng, 1e-3)
    assert used == 800
    assert np.all(np.abs(probed - np.diagonal(precision)) < 4.5 * error)
    # Where q has these directions already, only what it lacks makes noise.
    knows = Shape(shape.mean, scale, vector[:, [0, -2, -1]], value[[0, -2, -1]] ** -0.5)
    probed, _ = probed_diagonal(evaluate, knows, NONE, u, rng, 1e-3)
    rest = precision - np.linalg.inv(LowRank.factor(LowRank.from_moments(NONE, *_unit(knows)))) @ np.linalg.inv(
        LowRank.factor(LowRank.from_moments(NONE, *_unit(knows)))
    )
    error = np.sqrt((np.sum(rest**2, axis=1) - np.diagonal(rest) ** 2) / 400)
    assert np.all(np.abs(probed - np.diagonal(precision)) < 4.5 * error + 1e-6)


def _unit(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.ones_like(shape.scale), shape.basis, np.log(shape.stretch)


def test_the_wanted_diagonal_and_directions_make_one_gaussian():
    """Two factors and unequal noise: the precision has the diagonal and the directions asked for, and is closer to the
    target's than that with the directions alone."""
    d, rng = 40, np.random.default_rng(6)
    w = np.linalg.qr(rng.normal(size=(d, 2)))[0] * np.sqrt([30.0, 6.0])
    precision = np.diag(rng.uniform(0.5, 2.0, d)) + w @ w.T
    scale = np.diagonal(precision) ** -0.5
    inner = precision * np.outer(scale, scale)
    value, vector = np.linalg.eigh(inner)
    start = round_shape(np.zeros(d), np.ones(d))
    plain = with_directions(start, scale, value[-2:], vector[:, -2:])
    made = with_diagonal(start, scale, value[-2:], vector[:, -2:])
    u = np.eye(d)
    factor = made.out(u).T
    there = np.linalg.inv(factor @ factor.T)
    np.testing.assert_allclose(np.diagonal(there), np.diagonal(precision), rtol=1e-2)
    in_units = vector.T @ (there * np.outer(scale, scale)) @ vector
    np.testing.assert_allclose(np.diagonal(in_units)[-2:], value[-2:], rtol=1e-2)

    def loss(shape):
        """KL to the Gaussian with the precision, nats."""
        c = shape.out(u).T
        return 0.5 * (np.sum(c * (precision @ c)) - d - np.linalg.slogdet(precision)[1]) - shape.log_det()

    assert loss(made) < 0.1 * loss(plain)
    np.testing.assert_allclose(made.white(made.out(u)), u, atol=1e-12)
    np.testing.assert_allclose(made.back(u), u @ factor, atol=1e-12)
    np.testing.assert_allclose(made.log_det(), np.linalg.slogdet(factor)[1])
    np.testing.assert_allclose(made.inner_precision() / made.scale**2, np.diagonal(there), atol=1e-10)


def test_annealing_gives_the_evidence_of_skewed_margins():
    """520 log-gamma latents, tied by one direction of no density: Z is a product of gamma functions. q misses by two
    nats; the estimate is within four of its stated errors, and the error is small enough to mean something."""
    a, d = 20.0, 520

    def model(a):
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (d,), ()).to_event(1))
        taut.factor("density", jnp.sum(a * x - jnp.exp(x)))

    problem, solution = solve(model, dict(a=np.array(a)), LowRank(5))
    found = anneal(problem, solution, 1, particles=512, moves=2)
    exact = d * gammaln(a)
    assert exact - solution.history[-1].elbo > 1.0
    assert abs(found.log_evidence - exact) < 4 * found.log_evidence_se < 0.4
    assert found.temperatures > 2 and found.acceptance > 0.5 and found.converged and not found.capped
    assert len(found.points) % 512 == 0 and problem.kernel().gradients >= found.gradients
    # Particles are at the posterior: skewness of log Gamma(20) is about -a^(-1/2), q's is 0.
    x = found.points - found.points.mean(0)
    skewness = np.mean(x**3) / np.mean(x**2) ** 1.5
    np.testing.assert_allclose(skewness, stats.loggamma(a).stats("s"), atol=0.04)


def test_choices_and_refusals():
    def model(y):
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([12]).to_event(1))
        taut.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    problem = taut.Problem(model, dict(y=1.0))
    assert Auto().guide(problem) == FullRank(0.0)
    assert Auto(full_rank_limit=10, rank=7).guide(problem) == LowRank(7, 0.0)
    fit = taut.fit(model, dict(y=1.0), algorithm=Auto(full_rank_limit=10))
    assert fit.guide == "LowRank"
    np.testing.assert_allclose(fit.log_evidence, stats.norm.logpdf(1.0, 0, np.sqrt(13)), atol=0.01)
    with pytest.raises(taut.TautError, match="LowRankDraws with MeanField"):
        Run()(LowRankDraws(), problem, MeanField(), 0)
    full = Run()(Auto(), problem, FullRank(), 0)
    with pytest.raises(taut.TautError, match="anneal from FullRank"):
        anneal(problem, full)

    def hopeless(y):
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([12]).to_event(1))
        taut.factor("never", jnp.where(x.sum() > 1e6, y, -jnp.inf))

    with pytest.raises(taut.TautError, match="impossible-start"):
        Run()(LowRankDraws(), taut.Problem(hopeless, dict(y=1.0)), LowRank(3), 0)
