"""Relaxed discrete latents: densities by quadrature, limits of low temperature, fits, and refusals."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import taut
from taut import TautError, dist, handlers
from taut._precision import scope
from taut.algorithms import SVI


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_the_density_of_the_softened_choice_is_one(temperature: float):
    with scope("float64"):
        fn = dist.RelaxedOneHotCategorical(temperature, jnp.array([0.3, -0.5, 0.0]))

        # On the plane: z = softmax((u, v, 0)) has the Jacobian z1 z2 z3.
        grid = jnp.linspace(-60.0, 60.0, 801)
        u, v = jnp.meshgrid(grid, grid)
        z = jax.nn.softmax(jnp.stack([u, v, jnp.zeros_like(u)], -1), axis=-1)
        inside = jnp.exp(fn.log_prob(z) + jnp.sum(jnp.log(z), -1))
        total = integrate.trapezoid(integrate.trapezoid(np.asarray(inside), grid), grid)
        assert abs(total - 1) < 1e-6
        draws = np.asarray(fn.sample(jax.random.key(0), (20_000,)))
    # Whatever the temperature, the largest part is that of the categorical: probabilities of the logits.
    chosen = np.bincount(draws.argmax(-1), minlength=3) / 20_000
    exact = np.exp([0.3, -0.5, 0.0]) / np.exp([0.3, -0.5, 0.0]).sum()
    assert np.all(np.abs(chosen - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000))
    np.testing.assert_allclose(draws.sum(-1), 1.0, atol=1e-9)


def model(y: Any) -> None:
    z = taut.sample("z", dist.Bernoulli(0.3))
    taut.sample("y", dist.Normal(2.0 * z, 1.0), obs=y)


def guide() -> None:
    taut.sample("z", dist.Bernoulli(logits=taut.param("logit", 0.0)))


def test_a_relaxed_fit_is_near_the_discrete_posterior():
    y = 1.6
    log_odds = math.log(0.3 / 0.7) - 0.5 * (y - 2) ** 2 + 0.5 * y**2
    exact = 1 / (1 + math.exp(-log_odds))
    soft, q = handlers.relax(model, {"z": 0.2}), handlers.relax(guide, {"z": 0.2})
    fit = taut.fit(soft, dict(y=y), guide=q, algorithm=SVI(steps=3200), verify=False)
    share = float(np.mean(fit["z"].values > 0.5))
    # Biased by its temperature: near, not equal.
    assert abs(share - exact) < 0.08


def test_what_picks_an_element_is_refused():
    def picks(y: Any) -> None:
        z = taut.sample("z", dist.Categorical(jnp.array([0.5, 0.5])))
        taut.sample("y", dist.Normal(jnp.array([0.0, 2.0])[z], 1.0), obs=y)

    with pytest.raises(TautError, match="picks an element") as refused:
        taut.Problem(handlers.relax(picks, {"z": 0.5}), dict(y=1.0))
    assert "Multinomial(1, probs)" in refused.value.remedy
    with pytest.raises(TautError, match="positive number"):
        handlers.relax(model, {"z": 0.0})


def test_a_one_hot_choice_of_a_plate_is_softened():
    def choice(y: Any) -> None:
        with taut.plate("rows", 3):
            z = taut.sample("z", dist.Multinomial(1, jnp.array([0.2, 0.8])))
            taut.sample("y", dist.Normal(z @ jnp.array([0.0, 2.0]), 1.0), obs=y)

    problem = taut.Problem(handlers.relax(choice, 0.5), dict(y=np.array([0.1, 1.9, 2.2])))
    latent = problem.latents["z"]
    assert (latent.family, latent.shape, latent.coordinate_shape) == ("RelaxedOneHotCategorical", (3, 2), (3, 1))
    with scope("float64"):
        fn = dist.RelaxedOneHotCategorical(0.5, jnp.log(jnp.array([0.2, 0.8])))
        z = jnp.array([[0.3, 0.7], [0.1, 0.9], [0.6, 0.4]])
        found = float(problem.log_joint_by_site({"z": np.asarray(z)})["z"])
        exact = float(fn.log_prob(z).sum())
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_sites_that_are_not_named_stay():
    problem = taut.Problem(handlers.relax(model, {"other": 0.5}), dict(y=1.0), discrete=True)
    assert problem.latents["z"].transform == "discrete"
