"""Laplace on targets whose mode, curvature and evidence are known."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import taut
from taut import dist
from taut.algorithms import Laplace, Run, Solution
from taut.guides import FullRank


def gaussian(mean, cov):
    taut.sample("z", dist.MultivariateNormal(mean, covariance_matrix=cov))
    taut.factor("constant", 1.5)


def poisson(y):
    rate = taut.sample("rate", dist.Gamma(3.0, 1.0))
    taut.sample("y", dist.Poisson(rate), obs=y)


def classify(X, y=None):
    beta = taut.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with taut.plate("rows", len(X)):
        taut.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def sum_only(y):
    c = taut.sample("c", dist.Normal(0.0, 1.0))
    a = taut.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    b = taut.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
    taut.sample("y", dist.Normal(a + b + 0.1 * c, 1.0), obs=y)


def solve(model, data, guide=None):
    problem, algorithm = taut.Problem(model, data), Laplace()
    return problem, Run()(algorithm, problem, guide or algorithm.guide(problem), 0)


def evidence(solution: Solution) -> float:
    found = re.search(r"evidence is (-?[\d.]+) nats", " ".join(solution.notes))
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("dim", [1, 4, 30])
def test_exact_on_a_gaussian(dim):
    """Scales from 1e-2 to 1e2, correlated: mean, covariance and evidence (the constant 1.5) to rounding."""
    rng = np.random.default_rng(dim)
    a, scale = rng.normal(size=(dim, dim + 3)), np.logspace(-2, 2, dim)
    cov = a @ a.T / dim * np.outer(scale, scale)
    mean, sd = scale * rng.normal(size=dim), np.sqrt(np.diagonal(cov))
    _, solution = solve(gaussian, dict(mean=mean, cov=cov))
    factor = FullRank.factor(solution.params)
    assert solution.status == "converged"
    np.testing.assert_allclose((solution.params["loc"] - mean) / sd, 0, atol=1e-6)
    np.testing.assert_allclose(factor @ factor.T / np.outer(sd, sd), cov / np.outer(sd, sd), atol=1e-6)
    assert evidence(solution) == pytest.approx(1.5, abs=1e-6)


def test_gamma_posterior_in_log_coordinates():
    """In u = log(rate) the log posterior is 8 u - 2 e^u: mode log 4, curvature 8."""
    _, solution = solve(poisson, dict(y=5))
    np.testing.assert_allclose(solution.params["loc"], np.log(4.0), atol=1e-8)
    np.testing.assert_allclose(np.exp(solution.params["log_diagonal"]), 8**-0.5, rtol=1e-6)
    # Prior Gamma(3, 1) has constant 1 / 2!, the likelihood 1 / 5!; Laplace of the integral of e^(8u - 2 e^u).
    exact = 8 * np.log(4.0) - 8.0 + 0.5 * np.log(2 * np.pi / 8) - np.log(2.0) - np.log(120.0)
    assert evidence(solution) == pytest.approx(exact, abs=1e-6)


def test_evidence_of_a_logistic_regression():
    """200 rows, 6 columns, against SciPy's own optimum and the Hessian X'WX + I written out; the fit's evidence by
    importance sampling agrees with an independent one of 200,000 Student-t draws."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    y = (rng.uniform(size=200) < 1 / (1 + np.exp(-X @ rng.normal(size=6)))).astype(int)

    def log_p(beta):
        eta = beta @ X.T
        return (y * eta - np.logaddexp(0, eta)).sum(-1) - 0.5 * (beta**2).sum(-1) - 3 * np.log(2 * np.pi)

    best = optimize.minimize(lambda b: -log_p(b), np.zeros(6), method="BFGS", options=dict(gtol=1e-9)).x
    p = 1 / (1 + np.exp(-X @ best))
    hessian = X.T @ (X * (p * (1 - p))[:, None]) + np.eye(6)
    laplace = log_p(best) + 3 * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(hessian)[1]

    _, solution = solve(classify, dict(X=X, y=y))
    factor = FullRank.factor(solution.params)
    np.testing.assert_allclose(solution.params["loc"], best, atol=1e-5)
    # Central differences of half-width 1e-3 sd err by about 1e-6 relative.
    np.testing.assert_allclose(np.linalg.inv(factor @ factor.T), hessian, rtol=1e-4, atol=1e-4)
    assert evidence(solution) == pytest.approx(laplace, abs=1e-5)

    student = stats.multivariate_t(best, np.linalg.inv(hessian), df=8)
    draws = student.rvs(200_000, random_state=1)
    log_w = log_p(draws) - student.logpdf(draws)
    reference = np.logaddexp.reduce(log_w) - np.log(len(log_w))
    se = np.exp(log_w - reference).std() / np.sqrt(len(log_w))
    fit = taut.fit(classify, dict(X=X, y=y), algorithm=Laplace(), verify=False)
    assert abs(fit.log_evidence - reference) < 4 * se + 0.02  # 16,000 draws of the fit: .005
    assert abs(laplace - reference) < 0.5  # O(1/n): Laplace's own error, here about .1


def test_a_flat_direction_is_an_error_that_names_it():
    """Only a + b + .1 c is measured, and c has a prior: the flat direction is a - b."""
    with pytest.raises(taut.TautError) as caught:
        taut.fit(sum_only, dict(y=1.0), algorithm=Laplace())
    assert caught.value.code == "flat-direction"
    assert caught.value.site == "a"
    assert "along 0.71 a - 0.71 b\n" in str(caught.value)
    assert "neither prior nor data restrain a, b" in str(caught.value)


def test_one_flat_latent_of_a_vector():
    def model(y):
        x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (), (3,)))
        taut.sample("y", dist.Normal(x[:2].sum() + jnp.array([0.0, 1.0]) * x[2], 1.0).to_event(1), obs=y)

    with pytest.raises(taut.TautError, match=r"along 0\.71 x\[0\] - 0\.71 x\[1\]\n"):
        taut.fit(model, dict(y=np.array([1.0, 2.0])), algorithm=Laplace())


def test_what_it_does_not_serve():
    def with_parameter(y):
        s = taut.param("s", 1.0)
        taut.sample("y", dist.Normal(taut.sample("z", dist.Normal(s, 1.0)), 1.0), obs=y)

    with pytest.raises(taut.TautError, match=r"bad-combination.*'s'"):
        taut.fit(with_parameter, dict(y=5.0), algorithm=Laplace())
    with pytest.raises(taut.TautError, match="Laplace with MeanField"):
        taut.fit(poisson, dict(y=5), algorithm=Laplace(), guide=taut.guides.MeanField())
