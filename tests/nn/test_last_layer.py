"""Laplace's method for the last layer: exact where the posterior is normal, the textbook's where it is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import taut
from taut import dist, nn
from taut.algorithms import SVI
from taut.guides import Delta

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
Y = np.sin(2 * X[:, 0]) + 0.2 * RNG.normal(size=40)
MLP: Any = eqx.nn.MLP(2, 1, 5, 1, activation=jnp.tanh, key=jax.random.key(1))


def network(x: Any, y: Any = None) -> None:
    net = nn.bayesian("net", MLP, prior={"*weight": dist.Normal(0.0, 1.5), "*": dist.Normal(0.0, 0.7)})
    f = taut.deterministic("f", jax.vmap(net)(x)[:, 0])
    with taut.plate("rows", len(x)):
        taut.sample("y", dist.Normal(f, 0.2), obs=y)


def test_a_linear_last_layer_is_exact():
    start = nn.AtModule("net", MLP)
    fit = taut.fit(network, dict(x=X, y=Y), guide=Delta(start=start), algorithm=SVI(steps=800), verify=False)
    found = nn.last_layer_laplace(fit)
    assert found.sites == ("net$layers[1].weight", "net$layers[1].bias")
    # Given the features, Bayesian linear regression.
    w, b = fit["net$layers[0].weight"].mean, fit["net$layers[0].bias"].mean
    features = np.concatenate([np.tanh(X @ w.T + b), np.ones((40, 1))], axis=1)
    scales = np.array([1.5] * 5 + [0.7])
    precision = features.T @ features / 0.04 + np.diag(1 / scales**2)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(precision), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.mean, np.linalg.solve(precision, features.T @ Y / 0.04), rtol=1e-6)
    covariance: Any = 0.04 * np.eye(40) + (features * scales**2) @ features.T
    evidence = stats.multivariate_normal(cov=covariance).logpdf(Y)
    assert abs(found.log_evidence - evidence) < 1e-6
    # Draws vary in the last layer alone, and predictions follow them.
    draws = found.draws(4000)
    assert np.ptp(draws["net$layers[0].weight"], axis=0).max() == 0.0
    sd = np.sqrt(np.diag(found.covariance))
    np.testing.assert_allclose(draws["net$layers[1].weight"][:, 0].std(axis=0), sd[:5], rtol=0.06)  # 5 se of an sd
    new = found.predict(dict(x=X[:3]), 500)["f"]
    last = found.draws(500)
    expected = np.concatenate([last["net$layers[1].weight"][:, 0], last["net$layers[1].bias"]], axis=1) @ features[:3].T
    np.testing.assert_allclose(new, expected, rtol=1e-6)


def test_a_classifier_has_the_textbooks_curvature():
    labels = (RNG.random(40) < 1 / (1 + np.exp(-2 * X[:, 0]))).astype(float)

    def logistic(x: Any, y: Any = None) -> None:
        layer: Any = nn.bayesian("net", eqx.nn.Linear(2, "scalar", key=jax.random.key(0)), prior=dist.Normal(0.0, 2.0))
        with taut.plate("rows", len(x)):
            taut.sample("y", dist.Bernoulli(logits=jax.vmap(layer)(x)), obs=y)

    fit = taut.fit(logistic, dict(x=X, y=labels), guide=Delta(), verify=False)
    found = nn.last_layer_laplace(fit, last="net")  # the module is one layer
    design = np.concatenate([X, np.ones((40, 1))], axis=1)
    p = 1 / (1 + np.exp(-design @ found.mean))
    np.testing.assert_allclose(design.T @ (labels - p), found.mean / 4.0, atol=1e-6)  # the mode
    curvature = (design * (p * (1 - p))[:, None]).T @ design + np.eye(3) / 4.0
    np.testing.assert_allclose(np.linalg.inv(found.covariance), curvature, rtol=1e-6)


def test_other_names_are_refused():
    fit = taut.fit(network, dict(x=X, y=Y), guide=Delta(), algorithm=SVI(steps=10), verify=False)
    with pytest.raises(taut.TautError, match=r"\[site-missing\]"):
        nn.last_layer_laplace(fit, last="net$layers[7]")
    with pytest.raises(taut.TautError, match=r"\[site-missing\]"):
        nn.last_layer_laplace(fit, last=("net$layers[1].weight", "w"))


def test_a_fit_on_batches_has_the_curvature_of_all_rows():
    batches = taut.data.Batches(dict(x=X, y=Y), size=16, plate="rows")
    start = nn.AtModule("net", MLP)
    fit = taut.fit(network, batches, guide=Delta(start=start), algorithm=SVI(steps=10), verify=False)
    found = nn.last_layer_laplace(fit)
    w, b = fit["net$layers[0].weight"].mean, fit["net$layers[0].bias"].mean
    features = np.concatenate([np.tanh(X @ w.T + b), np.ones((40, 1))], axis=1)
    precision = features.T @ features / 0.04 + np.diag([1 / 1.5**2] * 5 + [1 / 0.7**2])
    np.testing.assert_allclose(found.covariance, np.linalg.inv(precision), rtol=1e-5, atol=1e-8)
    streamed: Any = SimpleNamespace(problem=SimpleNamespace(batches=SimpleNamespace(whole=None)))
    with pytest.raises(taut.TautError, match=r"\[bad-combination\]"):
        nn.last_layer_laplace(streamed)
