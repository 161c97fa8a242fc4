"""Maximum likelihood, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import taut
from taut import dist

Y = np.array([1.2, 0.4, 2.9, -0.7, 1.8, 3.3])


def normal(y):
    mu = taut.param("mu", 0.0)
    sigma = taut.param("sigma", 1.0, constraint=dist.constraints.positive)
    with taut.plate("rows", len(y)):
        taut.sample("y", dist.Normal(mu, sigma), obs=y)


def test_mean_and_sd_of_a_sample():
    """The mean, the root of the mean square, and Fisher's errors s / sqrt(n) and s / sqrt(2 n)."""
    found = taut.fit_mle(normal, dict(y=Y))
    s, n = Y.std(), len(Y)
    assert found.status == "converged"
    assert found.values["mu"] == pytest.approx(Y.mean(), abs=1e-6)
    assert found.values["sigma"] == pytest.approx(s, rel=1e-6)
    assert found.se["mu"] == pytest.approx(s / np.sqrt(n), rel=1e-3)  # the Hessian is a difference
    assert found.se["sigma"] == pytest.approx(s / np.sqrt(2 * n), rel=1e-3)
    law: Any = stats.norm(Y.mean(), s)
    assert found.log_likelihood == pytest.approx(law.logpdf(Y).sum(), abs=1e-6)
    assert "maximum likelihood (converged)" in str(found) and "sigma" in str(found)


def test_coefficients_are_least_squares():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(40), rng.normal(66, 4, 40)])
    y = x @ [3.0, 0.5] + rng.normal(size=40)

    def model(x, y):
        b = taut.param("b", np.zeros(2))
        with taut.plate("rows", len(y)):
            taut.sample("y", dist.Normal(x @ b, 1.0), obs=y)

    found = taut.fit_mle(model, dict(x=x, y=y))
    inverse = np.linalg.inv(x.T @ x)
    np.testing.assert_allclose(found.values["b"], inverse @ x.T @ y, rtol=1e-6)
    np.testing.assert_allclose(found.se["b"], np.sqrt(np.diag(inverse)), rtol=1e-4)


def test_a_likelihood_that_is_flat_has_no_error():
    def model(y):
        a, b = taut.param("a", 0.0), taut.param("b", 0.0)
        taut.sample("y", dist.Normal(a + b, 1.0), obs=y)

    found = taut.fit_mle(model, dict(y=2.0))
    assert found.values["a"] + found.values["b"] == pytest.approx(2.0, abs=1e-5)
    assert np.isnan(found.se["a"]) and np.isnan(found.se["b"])


def test_a_model_with_latents_is_sent_to_fit():
    def model(y):
        z = taut.sample("z", dist.Normal(0.0, 1.0))
        taut.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(taut.TautError) as caught:
        taut.fit_mle(model, dict(y=2.0))
    assert caught.value.code == "bad-combination" and caught.value.site == "z" and "taut.fit(" in caught.value.remedy
    with pytest.raises(taut.TautError) as caught:
        taut.fit_mle(lambda y: taut.sample("y", dist.Normal(0.0, 1.0), obs=y), dict(y=2.0))
    assert caught.value.code == "no-latents"
    with pytest.raises(taut.TautError) as caught:
        taut.fit(normal, dict(y=Y))
    assert caught.value.code == "no-latents" and "taut.fit_mle" in caught.value.remedy
