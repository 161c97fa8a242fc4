"""The verdict on a low-rank q: by weights where it is close, by annealed particles where not."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

import taut
from taut import dist

A, D = 40.0, 520


def skewed(a: float) -> None:
    x = taut.sample("x", dist.ImproperUniform(dist.constraints.real, (D,), ()).to_event(1))
    taut.factor("density", jnp.sum(a * x - jnp.exp(x)))


def test_draws_are_moved_from_a_low_rank_q_that_is_nats_away():
    """520 log-gamma latents: q has no skewness, the particles have -1 / sqrt(40), and Z is a product of gammas."""
    fit = taut.fit(skewed, dict(a=A))
    exact = D * gammaln(A)
    assert fit.guide == "LowRank" and fit.kl > 0.5
    error = fit.numbers["log evidence"][1]
    assert error is not None and abs(fit.log_evidence - exact) < 4 * error < 0.3
    assert fit.verdict.evidence_trusted and fit.guide_draws
    x = fit["x"].values
    # Averages over 520 latents and thousands of draws: the error of the mean of skewnesses is under 0.01.
    skewness = (x - x.mean(0)) ** 3 / x.var(0) ** 1.5
    np.testing.assert_allclose(skewness.mean(), stats.loggamma.stats(A, moments="s"), atol=0.02)
    np.testing.assert_allclose(x.mean(), stats.loggamma.mean(A), atol=0.02 / np.sqrt(A))
    np.testing.assert_allclose(x.std(0).mean(), stats.loggamma.std(A), rtol=0.01)


def test_annealing_that_is_too_dear_is_given_up_and_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("taut.fitting._verify_large._MOST_GRADIENTS", 2_000)
    fit = taut.fit(skewed, dict(a=A))
    assert not fit.guide_draws and not fit.verdict.evidence_trusted
    assert any("annealing was given up after" in note for note in fit.verdict.notes)


def test_a_q_that_weights_trust_is_not_annealed():
    def model(y: np.ndarray) -> None:
        x = taut.sample("x", dist.Normal(0.0, 1.0).expand([D]).to_event(1))
        with taut.plate("rows", D):
            taut.sample("y", dist.Normal(x, 0.5), obs=y)

    y = np.random.default_rng(0).normal(size=D)
    fit = taut.fit(model, dict(y=y))
    assert fit.guide == "LowRank" and "gradients of SMC" not in fit.numbers
    assert fit.verdict.level == "trusted" and fit.verdict.evidence_trusted
    np.testing.assert_allclose(fit.log_evidence, stats.norm.logpdf(y, 0, np.sqrt(1.25)).sum(), atol=0.01)
