"""Pathfinder: the mixture of its paths, and what importance weights make of it."""

from __future__ import annotations

import numpy as np
import pytest

import taut
from taut import dist
from taut.algorithms import Pathfinder, Run
from taut.guides import FullRank, GaussianMixture


def gaussian(mean, cov):
    taut.sample("z", dist.MultivariateNormal(mean, covariance_matrix=cov))
    taut.factor("constant", 1.5)


def target(dim):
    rng = np.random.default_rng(dim)
    a = rng.normal(size=(dim, dim + 3))
    return dict(mean=rng.normal(size=dim), cov=np.linalg.inv(a @ a.T / dim))


def solve(model, data, **settings):
    problem, algorithm = taut.Problem(model, data), Pathfinder(**settings)
    return problem, Run()(algorithm, problem, algorithm.guide(problem), 0)


def test_exact_on_a_gaussian_in_one_dimension():
    """One secant pair is the whole inverse Hessian: every path ends in N(m, s^2), and so does their mixture."""
    data = target(1)
    _, solution = solve(gaussian, data)
    assert solution.status == "converged"
    assert solution.guide == GaussianMixture(8, 0.0)
    assert solution.modes == (1, 8, 8)
    np.testing.assert_allclose(solution.params["loc"], data["mean"][0], atol=1e-6)
    np.testing.assert_allclose(np.exp(2 * solution.params["log_diagonal"]), data["cov"][0, 0], rtol=1e-6)
    np.testing.assert_allclose(np.exp(solution.params["log_weight"]), 1 / 8)


@pytest.mark.parametrize("dim", [5, 20])
def test_close_on_a_gaussian_and_exact_when_weighed(dim):
    """BFGS with inexact line searches does not end on the inverse Hessian, so q is off by a KL below 1 nat; its
    weights give the evidence 1.5 within four standard errors, and the moments."""
    data = target(dim)
    fit = taut.fit(gaussian, data, algorithm=Pathfinder(), verify=False)
    assert 0 <= fit.kl < 1.0
    se = fit.numbers["log evidence"][1]
    assert se is not None and fit.log_weights is not None
    assert abs(fit.log_evidence - 1.5) < 4 * se + 1e-6
    log_w = fit.log_weights - fit.log_weights.max()
    w = np.exp(log_w) / np.exp(log_w).sum()
    sd = np.sqrt(np.diagonal(data["cov"]))
    error = (w @ fit.values["z"] - data["mean"]) / sd
    assert np.abs(error).max() < 4.5 / np.sqrt(1 / (w**2).sum())  # effective sample size


def test_two_modes_of_unequal_mass():
    """Masses .75 and .25, 12 sd apart: paths end in both, and the weights give each its share, whatever the number of
    paths that ended there."""

    def model(y):
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (2,), ()))
        mix = dist.MixtureSameFamily(
            dist.Categorical(np.array([0.75, 0.25])),
            dist.MultivariateNormal(np.array([[-3.0, 0.0], [3.0, 0.0]]), 0.25 * np.eye(2)),
        )
        taut.factor("mixture", mix.log_prob(x) + 0.0 * y)

    fit = taut.fit(model, dict(y=0.0), algorithm=Pathfinder(radius=4.0), verify=False)
    assert fit.log_weights is not None
    w = np.exp(fit.log_weights - fit.log_weights.max())
    w /= w.sum()
    share = w @ (fit.values["x"][:, 0] < 0)
    # With half or more of the draws in either mode the share has an sd below 1 / sqrt(16000) = .008.
    assert abs(share - 0.75) < 0.03
    assert abs(fit.log_evidence) < 0.03


def test_one_path_is_a_gaussian():
    _, solution = solve(gaussian, target(2), paths=1)
    assert isinstance(solution.guide, FullRank)


def test_parameters_of_the_model_take_the_best_path():
    """y ~ N(z, 1), z ~ N(s, 1): q must be the Gaussian of one path, at that path's s: precision 2, mean (y + s) / 2."""

    def model(y):
        s = taut.param("s", 1.0)
        taut.sample("y", dist.Normal(taut.sample("z", dist.Normal(s, 1.0)), 1.0), obs=y)

    _, solution = solve(model, dict(y=5.0))
    assert isinstance(solution.guide, FullRank)
    np.testing.assert_allclose(np.exp(2 * solution.params["log_diagonal"]), 0.5, rtol=0.05)
    np.testing.assert_allclose(solution.params["loc"], (5.0 + solution.model_params) / 2, atol=0.05)
    assert "best path alone" in solution.notes[0]


def test_no_finite_start():
    def model(y):
        x = taut.sample("x", dist.Normal(0.0, 1.0))
        taut.factor("never", -np.inf * (1.0 + x**2 + y**2))

    with pytest.raises(taut.TautError, match="impossible-start"):
        taut.fit(model, dict(y=0.0), algorithm=Pathfinder())
