"""Exact tests of gradient estimators: variances in closed form, identities to rounding, signal-to-noise slopes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import polygamma

import taut
from taut import dist, gradients, guides, objectives
from taut._precision import scope
from taut.algorithms import LogWeights


def standard() -> None:
    taut.sample("z", dist.Normal(0.0, 1.0))


def exponential_of_z() -> None:
    # log p - log q = z where q = N(m, 1) and the density is q's times e^z: f = z.
    z = taut.sample("z", dist.Normal(0.0, 1.0))
    taut.factor("tilt", z)


@lru_cache
def runner(model: Any, gradient: Any, objective: Any) -> Any:
    """Compiled once for all places and all parameters of q."""
    problem, guide = taut.Problem(model, {}, precision="float64"), guides.MeanField()

    def loss(params: Any, key: Any) -> Any:
        weights = LogWeights(problem.program, guide, key, problem.inputs, objective.particles)
        return gradient.surrogate(objective, weights, params, jnp.zeros(0))

    return jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))


def slopes(model: Any, gradient: Any, objective: Any, loc: float, n: int, name: str = "loc") -> np.ndarray:
    """``n`` independent gradients at q = N(loc, 1)."""
    with scope("float64"):
        params = {"loc": jnp.array([loc]), "log_scale": jnp.zeros(1)}
        found = runner(model, gradient, objective)(params, jax.random.split(jax.random.key(0), n))
        return np.asarray(found[name])[:, 0]


@pytest.mark.parametrize("particles", [2, 5])
def test_leave_one_out_has_the_variance_of_its_closed_form(particles: int):
    """q = N(m, 1), f = z: Var = 2 / (K - 1) for the score with leave-one-out, (m^2 + 2) / K without a baseline.

    At m = 0 the log-weights are z itself; at m = 1 they are the constant 1/2, where the baseline leaves no noise and
    the plain score has variance 1 / 4K. A variance of products of normals from 60,000 draws is known to 4 %."""
    n, objective = 60_000, objectives.ELBO(particles)
    loo = gradients.ScoreFunction(everywhere=True)
    plain = gradients.ScoreFunction(baseline="none", everywhere=True)
    assert slopes(exponential_of_z, loo, objective, 0.0, n).var() == pytest.approx(2 / (particles - 1), rel=0.08)
    assert slopes(exponential_of_z, plain, objective, 0.0, n).var() == pytest.approx(2 / particles, rel=0.08)
    assert slopes(exponential_of_z, loo, objective, 1.0, n).var() < 1e-20
    assert slopes(exponential_of_z, plain, objective, 1.0, n).var() == pytest.approx(0.25 / particles, rel=0.08)


def test_vargrad_is_leave_one_out():
    for name in ("loc", "log_scale"):
        one = slopes(exponential_of_z, gradients.VarGrad(), objectives.ELBO(4), 0.7, 50, name)
        other = slopes(exponential_of_z, gradients.ScoreFunction(everywhere=True), objectives.ELBO(4), 0.7, 50, name)
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_sticking_the_landing_has_no_noise_at_the_posterior():
    for name in ("loc", "log_scale"):
        found = slopes(standard, gradients.StickingTheLanding(), objectives.ELBO(), 0.0, 100, name)
        assert np.abs(found).max() < 1e-12


def test_the_path_alone_keeps_the_noise_of_the_score():
    """At q = p = N(0, 1) with the entropy in closed form: variance P = 1 of the location, 2 of the log scale."""
    kl = objectives.ELBO(kl="analytic")
    found = slopes(standard, gradients.Pathwise(), objectives.ELBO(), 0.0, 40_000)
    assert found.var() == pytest.approx(1.0, rel=0.04)
    assert kl.closed_form  # the variance of the scale with it: z^2 of a standard normal
    z = np.random.default_rng(0).normal(size=200_000)
    assert np.var(z * z) == pytest.approx(2.0, rel=0.05)


def test_signal_to_noise_against_the_number_of_particles():
    """p = N(0, 1), q = N(1/2, 1): slopes -1/2 for the IWAE's own gradient, +1/2 doubly reparameterised."""
    sizes, ratios = (16, 64, 256), {}
    exact = {"Pathwise": (0.125, 0.0666, 0.0333), "DoublyReparam": (9.7, 16.9, 32.2)}
    counts = {"Pathwise": (12_000, 8_000, 4_000), "DoublyReparam": (2_000, 1_000, 500)}
    for gradient in (gradients.Pathwise(), gradients.DoublyReparam()):
        name, found = type(gradient).__name__, []
        for size, n, value in zip(sizes, counts[name], exact[name], strict=True):
            g = slopes(standard, gradient, objectives.IWAE(size), 0.5, n)
            found.append(abs(g.mean()) / g.std())
            # A ratio r of n gradients is known to about sqrt((1 + r^2 / 2) / n); the figures have three digits.
            assert found[-1] == pytest.approx(value, abs=5 * math.sqrt((1 + value**2 / 2) / n) + 0.01 * value), name
        ratios[name] = found
    slope = {name: math.log(v[2] / v[0]) / math.log(16) for name, v in ratios.items()}
    assert slope["DoublyReparam"] == pytest.approx(0.5, abs=0.1)
    assert slope["Pathwise"] == pytest.approx(-0.5, abs=0.25)


def test_forward_kl_takes_the_posteriors_own_variances():
    """Independent normals on a correlated Gaussian: s_i^2 = Sigma_ii, where the ELBO takes 1 / P_ii.

    The gradient of E_p log w vanishes there; with the weights of 200,000 draws to 5 standard errors."""
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    rng = np.random.default_rng(0)
    sd = np.sqrt(np.diag(covariance))
    z = rng.normal(size=(200_000, 2)) * sd
    log_p = -0.5 * np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z)
    log_w = log_p + 0.5 * ((z / sd) ** 2).sum(1)
    with scope("float64"):
        objective = objectives.ForwardKL(particles=len(z))
        share = -np.asarray(objective.score_weights(jnp.asarray(log_w)))
    score = (z / sd) ** 2 - 1  # of the log scales
    found = share @ score
    error = np.sqrt(((share[:, None] * (score - found)) ** 2).sum(0))
    assert np.all(np.abs(found) < 5 * error) and error.max() < 0.02


def gamma_draw(alpha: Any, key: Any) -> Any:
    return dist.Gamma(alpha, 1.0).sample(key)


gamma_slopes = jax.jit(jax.vmap(jax.value_and_grad(gamma_draw), in_axes=(None, 0)))


@pytest.mark.parametrize("alpha", [0.3, 9.0])
def test_implicit_gradients_of_a_gamma(alpha: float):
    """d E log z / d alpha = trigamma(alpha), d E z / d alpha = 1; the sample mean over 40,000 draws to 5 errors."""
    with scope("float64"):
        keys = jax.random.split(jax.random.key(0), 40_000)
        z, dz = (np.asarray(x) for x in gamma_slopes(jnp.asarray(alpha), keys))
    for found, exact in ((dz, 1.0), (dz / z, float(polygamma(1, alpha)))):
        assert abs(found.mean() - exact) < 5 * found.std() / math.sqrt(len(found))
