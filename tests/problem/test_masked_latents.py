"""Latents under a mask: a row without a prior is improper where it is read, and takes no part where it is not."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import taut
from taut import dist, handlers

stats: Any = scipy.stats
Y = np.array([0.4, -1.0, 2.0])
KNOWN = np.array([True, False, True])


def by_handler(y: Any, read: Any) -> None:
    with taut.plate("rows", 3):
        with handlers.mask(mask=KNOWN):
            x = taut.sample("x", dist.LogNormal(0.0, 1.0))
        with handlers.mask(mask=read):
            taut.sample("y", dist.Normal(jnp.log(x), 0.5), obs=y)


def by_method(y: Any, read: Any) -> None:
    with taut.plate("rows", 3):
        x = taut.sample("x", dist.LogNormal(0.0, 1.0).mask(KNOWN))
        with handlers.mask(mask=read):
            taut.sample("y", dist.Normal(jnp.log(x), 0.5), obs=y)


@pytest.mark.parametrize("model", [by_handler, by_method])
def test_a_row_that_is_read_has_a_flat_prior(model: Any):
    problem = taut.Problem(model, dict(y=Y, read=np.ones(3, bool)))
    u = np.array([0.1, -0.7, 0.3])
    likelihood = stats.norm(u, 0.5).logpdf(Y).sum()
    # Flat in the model's own space: on the real line only the volume of the map is left, e^u.
    expected = stats.norm.logpdf(u[KNOWN]).sum() + u[1] + likelihood
    assert float(problem.log_joint(u)) == pytest.approx(expected, abs=1e-10)
    plain = stats.lognorm(1.0).logpdf(np.exp(u[KNOWN])).sum() + likelihood
    assert float(problem.log_joint({"x": np.exp(u)})) == pytest.approx(plain, abs=1e-10)


@pytest.mark.parametrize("model", [by_handler, by_method])
def test_a_row_that_nothing_reads_takes_no_part(model: Any):
    fit = taut.fit(model, dict(y=Y, read=KNOWN))
    # Log x of the rows with a prior is conjugate: precision 1 + 4.
    np.testing.assert_allclose(np.log(fit["x"].values)[:, KNOWN].mean(0), 0.8 * Y[KNOWN], atol=0.02)
    marginal = stats.norm(0.0, np.sqrt(1.25)).logpdf(Y[KNOWN]).sum()
    assert fit.log_evidence == pytest.approx(marginal, abs=1e-6)


def test_a_latent_without_any_prior_is_its_likelihood():
    def model(y: Any) -> None:
        x = taut.sample("x", dist.Normal(0.0, 0.1).mask(False))
        taut.sample("y", dist.Normal(x, 0.5), obs=y)

    fit = taut.fit(model, dict(y=3.0))
    assert fit["x"].mean == pytest.approx(3.0, abs=0.02) and fit["x"].sd == pytest.approx(0.5, abs=0.02)
    # The evidence of a flat prior: the likelihood integrates to one.
    assert fit.log_evidence == pytest.approx(0.0, abs=1e-6)
