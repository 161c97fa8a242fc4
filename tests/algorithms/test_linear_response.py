"""Linear response against exact covariances, and against what it is the derivative of."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist
from taut._draws import orthogonal_antithetic
from taut.algorithms import FixedDraws, LowRankDraws, Run, Solution, linear_response
from taut.algorithms._fixed_draws import init, maximise
from taut.algorithms._linear_response import respond
from taut.algorithms._low_rank_shape import Shape
from taut.algorithms._mean_field import mean_field_draws
from taut.guides import Delta, FullRank, GaussianMixture, LowRank, MeanField


def gaussian(mean, precision):
    taut.sample("z", dist.MultivariateNormal(mean, precision_matrix=precision))
    taut.factor("constant", 0.0)


def target(dim, seed=0):
    rng = np.random.default_rng(seed + dim)
    a, scale = rng.normal(size=(dim, dim + 3)), np.logspace(-1, 1, dim)
    return scale * rng.normal(size=dim), a @ a.T / dim / np.outer(scale, scale)


def solve(model, data, guide):
    problem = taut.Problem(model, data)
    return problem, Run()(FixedDraws(), problem, guide, 0)


def correlation(cov, exact):
    scale = np.sqrt(np.diagonal(exact))
    return cov / np.outer(scale, scale)


@pytest.mark.parametrize("guide", [MeanField(), FullRank(), Delta()], ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("dim", [1, 8])
def test_the_inverse_precision_of_a_gaussian(dim, guide):
    """LRVB = P^-1 exactly, for a family that leaves all correlations out, for one that has them, and for a point."""
    mean, precision = target(dim)
    problem, solution = solve(gaussian, dict(mean=mean, precision=precision), guide)
    found, exact = linear_response(problem, solution), np.linalg.inv(precision)
    np.testing.assert_allclose(correlation(found.covariance, exact), correlation(exact, exact), atol=1e-8)
    np.testing.assert_allclose(found.sd, np.sqrt(np.diagonal(exact)), rtol=1e-8)
    if isinstance(guide, MeanField):
        np.testing.assert_allclose(np.exp(-2 * solution.params["log_scale"]), np.diagonal(precision), rtol=1e-6)


def test_conjugate_gradients_past_the_dense_limit():
    """D = 400, an AR(1) of correlation .8: the sd of three scalars out of 400, by site, where mean field shows .22 of
    a variance (its 1 / P_ii) for 1."""
    d, rho = 400, 0.8
    precision = np.diag(np.r_[1, np.full(d - 2, 1 + rho**2), 1]) - rho * (np.eye(d, k=1) + np.eye(d, k=-1))
    precision /= 1 - rho**2

    def model(rho):
        z = taut.sample("z", dist.ImproperUniform(dist.constraints.real, (d,), ()).to_event(1))
        taut.factor("chain", -0.5 * z[0] ** 2 - 0.5 * jnp.sum((z[1:] - rho * z[:-1]) ** 2) / (1 - rho**2))
        taut.deterministic("first", z[:2])
        taut.deterministic("sum", z.sum())

    problem = taut.Problem(model, dict(rho=np.array(rho)))
    params = {"loc": np.zeros(d), "log_scale": -0.5 * np.log(np.diagonal(precision))}
    solution = Solution(MeanField(), params, np.zeros(0), "converged")
    found = linear_response(problem, solution, ["first", "sum"])
    exact = np.linalg.inv(precision)
    weights = np.zeros((3, d))
    weights[0, 0] = weights[1, 1] = 1.0
    weights[2] = 1.0
    truth = weights @ exact @ weights.T
    np.testing.assert_allclose(correlation(found.covariance, truth), correlation(truth, truth), atol=1e-6)
    assert found.residual <= 1e-6
    # The dense Hessian would take 2 D M = 640,000 gradients.
    assert found.gradients < 300_000


def thousand():
    """A Gaussian of 1,000 latents whose covariance is five factors and unequal noise: precision by Woodbury."""
    rng, d = np.random.default_rng(2), 1000
    loadings, noise = rng.normal(size=(d, 5)) * np.array([3.0, 2.0, 1.0, 1.0, 0.5]), np.exp(rng.normal(size=d))
    inner = np.linalg.inv(np.eye(5) + loadings.T @ (loadings / noise[:, None]))
    half = loadings / noise[:, None]

    def model(mean, noise, half, inner):
        z = taut.sample("z", dist.ImproperUniform(dist.constraints.real, (d,), ()).to_event(1))
        x = z - mean
        taut.factor("density", -0.5 * jnp.sum(x * x / noise) + 0.5 * (x @ half) @ inner @ (half.T @ x))
        taut.deterministic("some", z[:3])
        taut.deterministic("total", z.sum())

    mean = 3.0 * rng.normal(size=d)
    data = dict(mean=mean, noise=noise, half=half, inner=inner)
    weights = np.eye(4, d)
    weights[3] = 1.0
    truth = (weights * noise) @ weights.T + (weights @ loadings) @ (weights @ loadings).T
    precision = 1.0 / noise - np.einsum("ij,jk,ik->i", half, inner, half)
    return taut.Problem(model, data), mean, precision, truth


def test_a_thousand_correlated_latents_of_which_four_scalars_are_asked():
    """Mean field at its optimum 1 / P_ii, whose own variances are far too small, gives the exact covariances."""
    problem, mean, precision, truth = thousand()
    solution = Solution(MeanField(), {"loc": mean, "log_scale": -0.5 * np.log(precision)}, np.zeros(0), "converged")
    assert np.all(1.0 / precision[:3] < 0.6 * np.diagonal(truth)[:3])
    found = linear_response(problem, solution, ["some", "total"])
    np.testing.assert_allclose(correlation(found.covariance, truth), correlation(truth, truth), atol=1e-5)
    assert found.residual <= 1e-6
    # The dense Hessian of the mean alone takes 2 D M = 128,000.
    assert found.gradients < 50_000


def test_a_low_rank_fit_whose_rank_is_too_small_answers_exactly():
    """Two directions where five are needed: mean and scales respond as the target's own Hessian says."""
    problem, _, _, truth = thousand()
    solution = Run()(LowRankDraws(), problem, LowRank(2), 0)
    assert solution.params["directions"].shape == (1000, 2)
    found = linear_response(problem, solution, ["some", "total"])
    np.testing.assert_allclose(correlation(found.covariance, truth), correlation(truth, truth), atol=1e-5)


def test_conjugate_gradients_in_the_frame_of_a_low_rank_gaussian_are_the_dense_formula():
    """On a skewed target in three dimensions, at the same draws: differences of the ELBO's value along every pair of
    the coordinates ``(m, log s)`` give all of H, without the code's own gradients."""
    rng = np.random.default_rng(4)
    shape = Shape(np.array([0.3, -0.2, 0.1]), np.array([0.7, 0.9, 0.5]), np.eye(3, 1), np.array([1.4]))
    draws = orthogonal_antithetic(64, 3, rng, radii="stratified")

    def evaluate(z):
        x, y, w = z.T
        log_p = -np.exp(0.5 * x) + x - 0.5 * (y - 0.7 * x) ** 2 - 0.05 * y**4 - (w - 0.4 * y) ** 2
        return log_p, np.column_stack(
            [
                -0.5 * np.exp(0.5 * x) + 1 + 0.7 * (y - 0.7 * x),
                -(y - 0.7 * x) - 0.2 * y**3 + 0.8 * (w - 0.4 * y),
                -2 * (w - 0.4 * y),
            ]
        )

    def elbo(v):
        rotated = draws.copy()
        rotated[:, 0] *= 1.4
        return evaluate(shape.mean + v[:3] + rotated * shape.scale * np.exp(v[3:]))[0].mean() + v[3:].sum()

    h, axes = 1e-3, np.eye(6)
    hessian = -np.array(
        [
            [
                (elbo(h * a + h * b) - elbo(h * a - h * b) - elbo(h * b - h * a) + elbo(-h * a - h * b)) / (4 * h * h)
                for a in axes
            ]
            for b in axes
        ]
    )
    exact = np.linalg.inv(hessian)[:3, :3]
    found, _, residual = respond(evaluate, shape.mean, shape, np.zeros(0), draws, np.eye(3))
    assert residual <= 1e-6
    np.testing.assert_allclose(found, exact, atol=1e-5)


@pytest.mark.parametrize("family", ["mean field", "full rank"])
def test_it_is_the_derivative_of_the_fitted_mean(family):
    """A skewed, correlated target in two dimensions: tilt it by t z_k, fit again on the same draws, and difference the
    means. Nothing here is Gaussian, and agreement is to the error of the difference."""

    def tilted(t):
        def evaluate(z):
            x, y = z.T
            log_p = -np.exp(0.5 * x) + x - 0.5 * (y - 0.7 * x) ** 2 - 0.05 * y**4 + z @ t
            g = np.column_stack([-0.5 * np.exp(0.5 * x) + 1 + 0.7 * (y - 0.7 * x), -(y - 0.7 * x) - 0.2 * y**3])
            return log_p, g + t

        return evaluate

    rng = np.random.default_rng(0)
    if family == "mean field":
        draws, factor = mean_field_draws(0, 2, rng), np.ones(2)
    else:
        draws, factor = orthogonal_antithetic(128, 2, rng, radii="stratified"), np.eye(2)

    def fitted(t):
        return maximise(tilted(t), init(tilted(t), np.zeros(2), factor, draws, tolerance=1e-13))[0]

    base, h = fitted(np.zeros(2)), 1e-3
    derivative = np.stack([(fitted(h * e).mean - fitted(-h * e).mean) / (2 * h) for e in np.eye(2)])
    found, _, residual = respond(tilted(np.zeros(2)), base.mean, base.factor, np.zeros(0), draws, np.eye(2))
    assert residual <= 1e-6
    np.testing.assert_allclose(found, derivative, atol=2e-4)


def test_whole_hessian_and_conjugate_gradients_agree():
    """On a logistic regression, at the same draws: 2 D M gradients against D runs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4)) @ (np.eye(4) + 0.5)
    y = (rng.uniform(size=80) < 1 / (1 + np.exp(-X @ np.ones(4)))).astype(int)

    def model(X, y=None):
        beta = taut.sample("beta", dist.Normal(0.0, 2.0).expand([4]).to_event(1))
        with taut.plate("rows", len(X)):
            taut.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)

    problem, solution = solve(model, dict(X=X, y=y), MeanField())
    whole = linear_response(problem, solution)
    kernel, lam = problem.kernel(), problem.centredness()
    loc, scale = solution.params["loc"], np.exp(solution.params["log_scale"])
    draws = mean_field_draws(0, 4, np.random.default_rng(1))
    found, _, _ = respond(lambda z: kernel(z, lam), loc, scale, np.zeros(0), draws, np.eye(4))
    # Other draws: both are averages of the same integrand over 64.
    exact = whole.covariance
    np.testing.assert_allclose(correlation(found, exact), correlation(exact, exact), atol=0.02)


def test_a_fit_says_it_by_site_in_the_models_own_space():
    """Two measured sums of a location and a log-scale: Gaussian on the real line, so the location's sd is exact and
    that of scale = exp(u) is exp(m) sd(u), the delta method."""

    def model(y):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        scale = taut.sample("scale", dist.LogNormal(0.0, 1.0))
        taut.deterministic("shifted", 3 * mu + 1)
        taut.sample("y", dist.Normal(mu + jnp.log(scale), 0.5), obs=y)

    fit = taut.fit(model, dict(y=1.0), guide=MeanField(), verify=False)
    # Precision I + 4 (1 1'; 1 1'): covariance I - 4/9 (1 1'; 1 1'), mean 4/9 each.
    exact, shown = 5 / 9, 1 / 5
    np.testing.assert_allclose(fit["mu"].sd, np.sqrt(shown), rtol=0.03)
    found = fit.linear_response("mu")
    np.testing.assert_allclose(found.sd, np.sqrt(exact), rtol=1e-8)
    assert found.sd.shape == () and found.covariance.shape == ()
    np.testing.assert_allclose(fit.linear_response("shifted").covariance, 9 * exact, rtol=1e-6)
    np.testing.assert_allclose(fit.linear_response("scale").sd, np.exp(4 / 9) * np.sqrt(exact), rtol=1e-6)
    assert fit.problem is not None and fit.solution is not None
    both = linear_response(fit.problem, fit.solution, ["mu", "shifted"])
    np.testing.assert_allclose(both.covariance, exact * np.array([[1, 3], [3, 9]]), rtol=1e-6)


def test_a_hierarchy_in_non_centred_coordinates():
    """theta = mu + 2 eta with known scales, written with a latent scale that data pin to 2: conjugate normal sds."""

    def model(y, s):
        mu = taut.sample("mu", dist.Normal(0.0, 1.0))
        tau = taut.sample("tau", dist.LogNormal(0.0, 1.0))
        taut.sample("s", dist.Normal(tau, 1e-4), obs=s)
        theta = taut.sample("theta", dist.Normal(mu, tau))
        taut.sample("y", dist.Normal(theta, 1.0), obs=y)

    fit = taut.fit(model, dict(y=1.0, s=2.0), guide=MeanField(centredness=0.0), verify=False)
    # Prior variance of theta 1 + 4, likelihood 1: 5/6; mu: 1 - 1/6.
    np.testing.assert_allclose(fit.linear_response("theta").covariance, 5 / 6, rtol=1e-3)
    np.testing.assert_allclose(fit.linear_response("mu").covariance, 5 / 6, rtol=1e-3)


def test_refusals():
    mean, precision = target(2)
    data = dict(mean=mean, precision=precision)
    problem = taut.Problem(gaussian, data)
    mixed = Solution(GaussianMixture(2), GaussianMixture(2).init(problem, 0), np.zeros(0), "converged")
    with pytest.raises(taut.TautError, match="linear response of GaussianMixture"):
        linear_response(problem, mixed)
    fit = taut.fit(gaussian, data, guide=MeanField(), verify=False)
    with pytest.raises(taut.TautError, match="site-missing"):
        fit.linear_response("zz")

    def saddle(y):
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (2,), ()).to_event(1))
        taut.factor("saddle", 0.5 * x[0] ** 2 - 0.5 * x[1] ** 2 + 0.0 * y)

    with pytest.raises(taut.TautError, match="no-maximum"):
        at = {"loc": np.zeros(2), "log_diagonal": np.zeros(2), "lower": np.zeros((2, 2))}
        linear_response(taut.Problem(saddle, dict(y=0.0)), Solution(FullRank(), at, np.zeros(0), "converged"))


def test_a_loaded_fit_has_no_density(tmp_path):
    mean, precision = target(2)
    fit = taut.fit(gaussian, dict(mean=mean, precision=precision), verify=False)
    loaded = taut.load(fit.save(tmp_path / "fit.taut"))
    with pytest.raises(taut.TautError, match="no-model"):
        loaded.linear_response("z")
