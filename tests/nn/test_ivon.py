"""IVON against known optima: quadratics, logistic regression by another algorithm, and its own published update."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist, testing
from taut.algorithms import IVON, FixedDraws, Run
from taut.algorithms._ivon import NaturalMeanField
from taut.algorithms._svi import Learned
from taut.guides import FullRank, MeanField


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_quadratic_is_solved(precision: Any):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) * np.array([1.0, 1.0, 10.0, 0.1])
    y = x @ np.array([1.0, -1.0, 0.3, 2.0]) + 0.3 * rng.normal(size=200)

    def model(x: Any, y: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 1.0).expand([4]).to_event(1))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Normal(x @ w, 0.3), obs=y)

    problem = taut.Problem(model, dict(x=x, y=y), precision=precision)
    found = Run()(IVON(), problem, MeanField(), 0)
    precision_of_all = x.T @ x / 0.09 + np.eye(4)
    sd = 1 / np.sqrt(np.diag(precision_of_all))
    assert found.status in ("converged", "plateaued")
    np.testing.assert_allclose(np.exp(found.params["log_scale"]), sd, rtol=0.05)
    # Averages of iterates: within a fifth of q's spread of the mode.
    assert np.all(np.abs(found.params["loc"] - np.linalg.solve(precision_of_all, x.T @ y / 0.09)) < 0.2 * sd)


def test_logistic_regression_reaches_the_mean_field_optimum():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 5))
    y = (rng.random(300) < 1 / (1 + np.exp(-x @ rng.normal(size=5)))).astype(float)

    def model(x: Any, y: Any) -> None:
        w = taut.sample("w", dist.Normal(0.0, 2.0).expand([5]).to_event(1))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    problem = taut.Problem(model, dict(x=x, y=y))
    known, found = (Run()(a, problem, MeanField(), 0).params for a in (FixedDraws(), IVON()))
    np.testing.assert_allclose(np.exp(found["log_scale"]), np.exp(known["log_scale"]), rtol=0.05)
    assert np.all(np.abs(found["loc"] - known["loc"]) < 0.2 * np.exp(known["log_scale"]))


def test_one_step_is_the_published_one():
    # lambda = 50 observations, prior precision lambda delta; per-observation curvature h, gradient g of the loss.
    rng = np.random.default_rng(2)
    lam, delta, beta1, beta2, rate = 50.0, 0.02, 0.9, 0.95, 0.1
    m, h, eps, g = rng.normal(size=3), rng.uniform(0.5, 2.0, 3), rng.normal(size=3), rng.normal(size=3)
    sigma = 1 / np.sqrt(lam * (h + delta))
    f = g * eps / sigma
    h_new = beta2 * h + (1 - beta2) * f + 0.5 * (1 - beta2) ** 2 * (h - f) ** 2 / (h + delta)
    m_new = m - rate * (g + delta * m) / (h + delta)  # the first step: the momentum without its bias is the gradient
    # What the ELBO's gradients are then: the prior's part in closed form, in m and in log sigma.
    slope_m = -lam * (g + delta * m)
    slope_s = -lam * g * eps * sigma - lam * delta * sigma**2 + 1.0
    rule = NaturalMeanField(rate=rate, beta1=beta1, beta2=beta2, clip=1e9)
    now = Learned({"loc": jnp.asarray(m), "log_scale": jnp.asarray(np.log(sigma))}, jnp.zeros(0))
    slope = Learned({"loc": jnp.asarray(slope_m), "log_scale": jnp.asarray(slope_s)}, jnp.zeros(0))
    after, _ = rule.update(slope, rule.init(now), now)
    np.testing.assert_allclose(after.guide["log_scale"], -0.5 * np.log(lam * (h_new + delta)), rtol=1e-5)
    np.testing.assert_allclose(after.guide["loc"], m_new, rtol=1e-5)


def test_the_precision_stays_positive():
    now = Learned({"loc": jnp.zeros(2), "log_scale": jnp.zeros(2)}, jnp.zeros(0))
    slope = Learned({"loc": jnp.zeros(2), "log_scale": jnp.array([1e6, -1e6])}, jnp.zeros(0))
    rule = NaturalMeanField()
    after, _ = rule.update(slope, rule.init(now), now)
    assert np.all(np.isfinite(np.asarray(after.guide["log_scale"])))


def test_other_guides_and_settings_are_refused():
    problem = testing.conjugate_regression().problem()
    with pytest.raises(taut.TautError, match="mean-field"):
        Run()(IVON(), problem, FullRank(), 0)
    with pytest.raises(taut.TautError, match="Pathwise"):
        IVON(gradient=taut.gradients.StickingTheLanding())
    bad: dict[str, Any]
    for bad in (dict(beta2=1.0), dict(rate=0.0), dict(shrink=0.0), dict(beta1=-0.1), dict(clip=-1.0)):
        with pytest.raises(taut.TautError, match=next(iter(bad))):
            IVON(**bad)
