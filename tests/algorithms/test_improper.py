"""Posteriors without an integral: the verdict names the latents along which the density does not fall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import taut
from taut import dist

free = dist.ImproperUniform
real, positive = dist.constraints.real, dist.constraints.positive


def groups_of_any_scale(y: Any) -> None:
    """1/tau at zero: the integral over log tau has no end there."""
    log_tau = taut.sample("log_tau", free(real, (), ()))
    with taut.plate("group", len(y)):
        z = taut.sample("z", dist.Normal(0, 1))
        taut.sample("y", dist.Normal(jnp.exp(log_tau) * z, 1.0), obs=y)


def separated(x: Any, y: Any) -> None:
    """A line separates the data and nothing bounds the slope."""
    slope = taut.sample("slope", free(real, (), ()))
    with taut.plate("row", len(y)):
        taut.sample("y", dist.Bernoulli(logits=slope * x), obs=y)


def one_number(y: float) -> None:
    """Mean and scale from one number: no bound at mu = y, sigma = 0."""
    mu = taut.sample("mu", dist.Normal(0, 5))
    sigma = taut.sample("sigma", free(positive, (), ()))
    taut.factor("prior", -jnp.log(sigma))
    taut.sample("y", dist.Normal(mu, sigma), obs=y)


def only_the_sum(y: float) -> None:
    a, b = taut.sample("a", free(real, (), ())), taut.sample("b", free(real, (), ()))
    taut.sample("z", dist.Normal(0, 1))
    taut.sample("y", dist.Normal(a + b, 1.0), obs=y)


@pytest.mark.parametrize(
    ("model", "data", "names"),
    [
        (groups_of_any_scale, dict(y=np.array([1.0, -0.5, 0.3, 0.1])), "log_tau"),
        (separated, dict(x=np.array([-2.0, -1.0, 1.0, 2.0]), y=np.array([0, 0, 1, 1])), "slope"),
        (one_number, dict(y=2.0), "sigma"),
        (only_the_sum, dict(y=1.0), "a, b"),
    ],
)
def test_what_nothing_restrains_is_named(model: Callable[..., None], data: dict[str, Any], names: str):
    fit = taut.fit(model, data)
    assert fit.verdict.level == "not trusted"
    assert (
        fit.verdict.headline
        == f"not trusted: neither prior nor data restrain {names}: the density does not fall along it."
    )
    assert "proper prior" in fit.verdict.advice
    assert not fit.verdict.evidence_trusted
    assert set(fit.draws(10)) >= set(names.split(", "))  # what was found is returned
