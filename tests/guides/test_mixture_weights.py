"""Mixtures with learned weights as building blocks of guide programs, against quadrature."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

import taut
from taut import dist, gradients, guides, objectives
from taut.algorithms import SVI

SIMPLEX, POSITIVE = dist.constraints.simplex, dist.constraints.positive
GRID = np.linspace(-9.0, 9.0, 20_001)
Y = np.array([2.0, 2.4])


def model(y: Any) -> None:
    """Seen through its absolute value: two modes far apart, whose masses the prior tells."""
    with taut.plate("rows", len(y)):
        x = taut.sample("x", dist.Normal(jnp.array([0.4, -0.2]), 1.0))
        taut.sample("y", dist.Normal(jnp.abs(x), 0.3), obs=y)


def guide(y: Any) -> None:
    """A mixture for every row, its weights off by far at first."""
    weights = taut.param("weights", jnp.full((2, 2), 0.5), constraint=SIMPLEX)
    loc = taut.param("loc", jnp.array([[-1.0, 1.0]] * 2))
    scale = taut.param("scale", jnp.full((2, 2), 0.5), constraint=POSITIVE)
    with taut.plate("rows", len(y)):
        taut.sample("x", dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(loc, scale)))


def exact() -> tuple[np.ndarray, float]:
    """The mass below zero by row, and the log evidence."""
    below, log_z = [], 0.0
    for prior, y in zip((0.4, -0.2), Y, strict=True):
        log_p = -0.5 * (GRID - prior) ** 2 - 0.5 * ((y - np.abs(GRID)) / 0.3) ** 2 - np.log(2 * np.pi * 0.3)
        density = np.exp(log_p)
        below.append(density[GRID < 0].sum() / density.sum())
        log_z += np.log(density.sum() * (GRID[1] - GRID[0]))
    return np.array(below), log_z


def test_weights_of_every_row_are_learned():
    left, log_z = exact()
    # Row by row, where a bound of several draws is taken of each; and by the ELBO, of whole draws.
    for objective in (None, objectives.IWAE(4)):
        algorithm = SVI() if objective is None else SVI(objective=objective)
        fit = taut.fit(model, dict(y=Y), guide=guide, algorithm=algorithm, verify=False)
        # A weight off by d costs d^2 / 2w(1 - w), 0.004 nats for 0.04: less than the 0.01 that a run stops at.
        np.testing.assert_allclose(fit.unconstrained["weights"].value[:, 0], left, atol=0.04)
        assert abs(fit.log_evidence - log_z) < 0.01 and fit.facts["gradient"] == "ScoreFunction"


def test_only_learned_weights_need_the_score():
    problem = taut.Problem(model, dict(y=Y))

    def given(y: Any) -> None:
        loc = taut.param("loc", jnp.array([[-1.0, 1.0]] * 2))
        with taut.plate("rows", len(y)):
            taut.sample("x", dist.MixtureSameFamily(dist.Categorical(probs=jnp.ones(2) / 2), dist.Normal(loc, 0.3)))

    assert guides.bind(guide, problem).still == {"x": "MixtureSameFamily"}
    assert guides.bind(given, problem).still == {}
    _, estimator = SVI().pair(problem, guides.bind(given, problem))
    assert isinstance(estimator, gradients.StickingTheLanding)
